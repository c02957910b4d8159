# What the recipes share. They run in mount and process namespaces of their own, which take every mount and process with them.
umask 022

# copy BELOW OUT
copy() {
  cp --archive --reflink=auto "$1/." "$2/"
}

# add_packages ROOT PACKAGE...
# The machine's apt, with its sources and keys, installs into a root that is not its own.
add_packages() {
  local root=$1
  shift
  apt-get --yes --quiet --no-install-recommends \
    -o Dir::State::status="$root/var/lib/dpkg/status" -o Dir::State::extended_states="$root/var/lib/apt/extended_states" \
    -o Dir::Cache::archives="$root/var/cache/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dir::Log="$root/var/log/apt" \
    -o DPkg::Chroot-Directory="$root" -o DPkg::Options::=--force-unsafe-io -o DPkg::Use-Pty=false -o APT::Sandbox::User=root \
    install "$@"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root/var/cache/ldconfig/aux-cache" "$root/var/lib/apt/extended_states"
  find "$root/var/log" -type f -delete
}

# unpack OUT PACKAGE...
# The files of packages, without what they do when they are installed.
unpack() {
  local out=$1 debs
  shift
  debs=$(mktemp --directory)
  (cd "$debs" && apt-get --quiet -o APT::Sandbox::User=root download "$@")
  for deb in "$debs"/*.deb; do
    dpkg-deb --extract "$deb" "$out"
  done
  rm -rf "$debs"
}

# python_packages ROOT UV CACHE REQUIREMENT...
python_packages() {
  local root=$1 uv=$2 cache=$3
  shift 3
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/tmp"
  mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
  touch "$root/tmp/uv"
  mount --bind "$uv" "$root/tmp/uv"
  mkdir "$root/tmp/cache"
  mount --bind "$cache" "$root/tmp/cache"
  # As pip does in the originals, it compiles all.
  HOME=/tmp TMPDIR=/tmp SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_CACHE_DIR=/tmp/cache UV_LINK_MODE=copy \
    chroot "$root" /tmp/uv pip install --no-progress --compile-bytecode --only-binary :all: --system --python /usr/local/bin/python3.11 "$@"
  umount "$root/tmp/cache" "$root/tmp/uv" "$root/etc/resolv.conf" "$root/tmp" "$root/dev" "$root/proc"
}
