/** The package manager that has started this command. Package managers set the variable, for example to `pnpm/10.0.0`. */
export const packageManager = (): string =>
  /^(?:npm|pnpm|yarn|bun)\b/.exec(process.env.npm_config_user_agent ?? '')?.[0] ?? 'npm'

/** Returns the command line that has started this process: that of a package manager if it ran a script, or else ours. */
export function startedAs(): string {
  // Package managers set these variables.
  const { npm_command: command, npm_lifecycle_event: script, npm_lifecycle_script: text = '' } = process.env
  const own = process.argv.slice(2).join(' ')
  if (command === 'exec' || script === 'npx') return `npx accepted ${own}`
  if (!script) return `accepted ${own}`
  const run = script === 'start' ? `${packageManager()} start` : `${packageManager()} run ${script}`
  return /\bdev\b/.test(text) ? run : `${run} -- ${own}`
}
