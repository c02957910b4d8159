# static.sh OUT CERTIFICATES
# What a static program wants around it, as the originals' distroless base has it.
out=$1 certificates=$2
mkdir -p "$out/etc/ssl/certs" "$out/home/nonroot" "$out/root" "$out/tmp"
chmod 1777 "$out/tmp"
chmod 0700 "$out/root"
chown 65532:65532 "$out/home/nonroot"
printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$out/etc/passwd"
printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' >"$out/etc/group"
cat "$certificates" >"$out/etc/ssl/certs/ca-certificates.crt"
