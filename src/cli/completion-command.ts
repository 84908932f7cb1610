import type { Command } from 'commander'
import { findCandidates } from './completion.ts'

type Shell = 'bash' | 'zsh' | 'fish'

const scripts: Readonly<Record<Shell, string>> = {
  bash: `# Completion of accepted for bash. In ~/.bashrc: eval "$(accepted completion bash)"
_accepted() {
  local IFS=$'\\n'
  COMPREPLY=($(accepted __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _accepted accepted`,
  zsh: `#compdef accepted
# Completion of accepted for zsh. In ~/.zshrc, after compinit: eval "$(accepted completion zsh)"
_accepted() {
  local -a candidates
  candidates=("\${(@f)$(accepted __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$candidates" ]]; then compadd -a candidates; else _files; fi
}
compdef _accepted accepted`,
  fish: `# Completion of accepted for fish. In ~/.config/fish/config.fish: accepted completion fish | source
complete -c accepted -f -a '(accepted __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
complete -c accepted -l config -r -F`,
}

/** Runs `accepted completion`: prints the script that a shell evaluates. */
export async function completionCommand(shell: Shell): Promise<void> {
  console.log(scripts[shell])
}

/** Runs `accepted __complete`, which the scripts call: prints the candidates for the last word, one per line. */
export async function completeCommand(program: Command, words: readonly string[]): Promise<void> {
  const candidates = await findCandidates(program, words)
  if (candidates.length > 0) console.log(candidates.join('\n'))
}
