#compdef podrun
# zsh completion for podrun: asks podrun itself what may stand at the cursor.
_podrun() {
    local -a lines words_and_helps
    lines=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $lines[1] == files ]]; then
        # Behind `--flag=` only the value is a path.
        compset -P '--*='
        _files
    elif [[ $lines[1] == manifests ]]; then
        # Directories as well.
        _files -g '*.toml'
    fi
    local line
    for line in "${(@)lines[2,-1]}"; do
        words_and_helps+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    (( $#words_and_helps )) && _describe -V 'podrun' words_and_helps
}
if [[ $funcstack[1] == _podrun ]]; then
    _podrun "$@"
else
    compdef _podrun podrun
fi
