#!/bin/sh
# Runs in a container of the lab image: downloads packages with what they depend on into /srv, as a flat repository.
set -eu
apt="apt-get -o Dir::Etc::sourcelist=/mnt/sources.list -o Dir::Etc::sourceparts=/dev/null"
echo "package lists"
$apt -qq update
echo "download"
# shellcheck disable=SC2086 -- a list of package names
$apt -y -o APT::Install-Recommends=true -o Dir::Cache::archives=/srv --download-only install $LAB_PACKAGES
# What only some nodes get is not offered with its recommendations: WireGuard's is a whole kernel.
# shellcheck disable=SC2086 -- a list of package names
[ -z "${LAB_BARE_PACKAGES:-}" ] || $apt -y -o APT::Install-Recommends=false -o Dir::Cache::archives=/srv \
    --download-only install $LAB_BARE_PACKAGES
cd /srv
rm -rf lock partial
for package in *.deb; do
    dpkg-deb -f "$package"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$package" "$(stat -c %s "$package")" \
        "$(sha256sum "$package" | cut -d' ' -f1)"
done >Packages.new
mv Packages.new Packages
