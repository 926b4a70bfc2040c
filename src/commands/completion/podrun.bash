# bash completion for podrun: asks podrun itself what may stand at the cursor.
_podrun() {
    local line kind=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
            continue
        fi
        COMPREPLY+=("${line%%$'\t'*}")
    done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ $kind == files || $kind == manifests ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do
            [[ $kind == files || $line == *.toml || -d $line ]] && COMPREPLY+=("$line")
        done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -F _podrun podrun
