# postgres.sh BELOW OUT ENTRYPOINT
below=$1 out=$2 entrypoint=$3
copy "$below" "$out"
# What Debian's postgresql-15 depends on, but for perl, the JIT's compiler and what manages several clusters.
add_packages "$out" libgssapi-krb5-2 libicu72 libldap-2.5-0 liblz4-1 libpam0g libpq5 libreadline8 libselinux1 libssl3 libstdc++6 \
  libsystemd0 libuuid1 libxml2 libxslt1.1 libzstd1 tzdata zlib1g
files=$(mktemp --directory)
unpack "$files" postgresql-15 postgresql-client-15
rm -rf "$files/usr/lib/postgresql/15/lib/bitcode" "$files/usr/lib/postgresql/15/lib/"llvmjit* "$files/etc"
mkdir -p "$out/usr/lib" "$out/usr/share"
cp --archive "$files/usr/lib/postgresql" "$out/usr/lib/"
cp --archive "$files/usr/share/postgresql" "$out/usr/share/"
rm -rf "$files"
sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" "$out/usr/share/postgresql/15/postgresql.conf.sample"
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$out/etc/passwd"
echo 'postgres:x:999:' >>"$out/etc/group"
mkdir -p "$out/var/lib/postgresql/data" "$out/run/postgresql"
chown --recursive 999:999 "$out/var/lib/postgresql" "$out/run/postgresql"
chmod 1777 "$out/var/lib/postgresql/data"
chmod 3777 "$out/run/postgresql"
install --mode=0755 "$entrypoint" "$out/usr/local/bin/docker-entrypoint.sh"
