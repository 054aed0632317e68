#!/bin/sh
# Runs in a container of the lab image: kubectl and etcdctl of Debian's packages into /srv; installs nothing.
set -eu
apt="apt-get -o Dir::Etc::sourcelist=/mnt/sources.list -o Dir::Etc::sourceparts=/dev/null"
echo "package lists"
$apt -qq update
echo "download"
cd /tmp
$apt -qq download kubernetes-client etcd-client
for package in ./*.deb; do dpkg -x "$package" unpacked; done
install -m 755 unpacked/usr/bin/kubectl unpacked/usr/bin/etcdctl /srv/
