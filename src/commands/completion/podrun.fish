# fish completion for podrun: asks podrun itself what may stand at the cursor.
function __podrun_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l lines ($before[1] complete -- $before[2..-1] "$current" 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$current"
    else if test "$lines[1]" = manifests
        # Manifests, and directories on the way to one.
        string match -r '.*(?:/|\.toml)$' -- (__fish_complete_path "$current" | string replace -r '\t.*' '')
    end
    if test (count $lines) -gt 1
        printf '%s\n' $lines[2..-1]
    end
end
complete -c podrun -f -a '(__podrun_complete)'
