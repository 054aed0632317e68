#!/bin/sh
# Runs in a container of the lab image: from Debian's own source package to the programs of a control plane in /srv.
# /mnt holds this folder and the package source of the machine that builds. Takes about 10 minutes on two cores.
set -eu
work=/tmp/build
mkdir -p "$work/debs" "$work/unpacked" "$work/tmp" "$work/gopath/src/k8s.io"
cd "$work"
sed 'p; s/^deb /deb-src /' /mnt/sources.list >sources.list
apt="apt-get -qq -o Dir::Etc::sourcelist=$work/sources.list -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root"
echo "package lists"
$apt update
echo "download"
cd debs
$apt source --download-only kubernetes
$apt download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server patch
for package in ./*.deb; do dpkg -x "$package" ../unpacked; done
install -m 755 ../unpacked/usr/bin/etcd /srv/

echo "source"
cd "$work/gopath/src/k8s.io"
mkdir kubernetes
tar -xzf "$work"/debs/kubernetes_1.20.*.orig.tar.gz --strip-components=1 -C kubernetes
cd kubernetes
# The vendored reflect2 1.0.1 misreads maps of Go 1.18 and newer, and the API server panics; Debian has 1.0.2.
rm -rf vendor/github.com/modern-go/reflect2
cp -a "$work/unpacked/usr/share/gocode/src/github.com/modern-go/reflect2" vendor/github.com/modern-go/
python3 /mnt/copy_apis.py .
"$work/unpacked/usr/bin/patch" -s -p1 </mnt/source.patch

export GOROOT="$work/unpacked/usr/lib/go-1.19" GOPATH="$work/gopath" GOCACHE="$work/cache" GOTMPDIR="$work/tmp" HOME="$work"
export GO111MODULE=off GOPROXY=off GOSUMDB=off CGO_ENABLED=0 GOFLAGS=
export PATH="$GOROOT/bin:$PATH"
for tool in kube-openapi/cmd/openapi-gen code-generator/cmd/conversion-gen code-generator/cmd/defaulter-gen; do
    echo "generator ${tool##*/}"
    nice go build -o "$work/bin/" "./vendor/k8s.io/$tool"
done

packages() { # of the Go files on stdin that have the tag $1
    xargs grep -l "^// *+k8s:$1=" | xargs -n 1 dirname | LC_ALL=C sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd,
}
header=vendor/k8s.io/code-generator/hack/boilerplate.go.txt
apis=k8s.io/kubernetes/pkg/apis
echo "conversions"
nice "$work/bin/conversion-gen" -h "$header" -O zz_generated.conversion \
    --extra-peer-dirs "$apis/core,$apis/core/v1,k8s.io/api/core/v1" \
    --extra-dirs "$(find pkg/apis -name '*.go' | packages conversion-gen)" \
    -i "$apis/batch/v1,$apis/batch/v1beta1,$apis/batch/v2alpha1"
echo "defaults"
nice "$work/bin/defaulter-gen" -h "$header" -O zz_generated.defaults \
    --extra-peer-dirs "$(find pkg/apis -name '*.go' | packages defaulter-gen)" -i "$apis/batch/v1"
echo "OpenAPI" # the one generated file that the release's archive lacks
documented=$({
    find . \( -path ./vendor -o -path ./staging -o -path ./test \) -prune -o -name '*.go' -print
    find vendor/k8s.io/ -follow -name '*.go' -print
} | sed 's#^\./##' | grep -vE '^vendor/k8s.io/(code-generator|sample-apiserver)/' | packages openapi-gen)
nice "$work/bin/openapi-gen" -h "$header" -O zz_generated.openapi -i "$documented" \
    -p k8s.io/kubernetes/pkg/generated/openapi -r "$work/openapi.report"

flags="-s -w"
for package in k8s.io/client-go/pkg/version k8s.io/component-base/version; do
    for prefix in "" k8s.io/kubernetes/vendor/; do
        for value in gitVersion=v1.20.2 gitMajor=1 gitMinor=20 gitTreeState=archive buildDate=2021-01-13T13:20:00Z; do
            flags="$flags -X $prefix$package.$value"
        done
    done
done
for program in kube-apiserver kube-controller-manager kube-scheduler; do
    echo "compiling $program"
    nice go build -trimpath -ldflags "$flags" -o "/srv/$program" "./cmd/$program"
done
