# shellcheck shell=bash
# Shared by hack/linker and hack/order: what functions are called. Source it.

# with_plain_names: a line `PLAIN<tab>SYMBOL` for each symbol of the input. The plain
# name is the symbol without what each compiler and each build makes anew: the hash
# at its end, or those of the crates inside (the newer way of writing them).
with_plain_names() {
    awk '{
        plain = $1
        if (plain ~ /^_ZN/) sub(/17h[0-9a-f]+E$/, "E", plain)
        else if (plain ~ /^_R/) gsub(/Cs[0-9A-Za-z]+_/, "C", plain)
        print plain "\t" $1
    }'
}
