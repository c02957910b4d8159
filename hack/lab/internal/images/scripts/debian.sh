# debian.sh OUT CERTIFICATES APT-OPTIONS SUITE SOURCE...
# A small Debian from the machine's own sources, as the originals' base is.
out=$1 certificates=$2 options=$3 suite=$4
shift 4
mmdebstrap --mode=root --variant=apt --include=ca-certificates --aptopt="$options" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$suite" "$out" "$@"
# The proxy of the machine that built an image is not part of it.
rm -f "$out/etc/apt/apt.conf.d/99mmdebstrap" "$out/etc/hostname" "$out/var/cache/ldconfig/aux-cache"
: >"$out/etc/resolv.conf"
find "$out/var/log" -type f -delete
cat "$certificates" >"$out/etc/ssl/certs/ca-certificates.crt"
