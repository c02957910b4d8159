# busybox.sh OUT
out=$1
files=$(mktemp --directory)
unpack "$files" busybox-static
mkdir -p "$out/bin" "$out/etc" "$out/root" "$out/tmp"
chmod 1777 "$out/tmp"
chmod 0700 "$out/root"
cp "$files/bin/busybox" "$out/bin/busybox"
rm -rf "$files"
for applet in $("$out/bin/busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$out/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$out/etc/passwd"
echo 'root:x:0:' >"$out/etc/group"
