import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { asRole } from './database.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')

/** The exit code and the output of a command. */
export interface CommandResult {
  code: number | null
  out: string
  err: string
}

/**
 * Runs an `accepted` command as its role, and waits until it exits.
 *
 * @param input the standard input of the command
 */
export async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  input?: string,
): Promise<CommandResult> {
  const child = spawn(process.execPath, ['--conditions=accepted-source', main, ...args], {
    env: {
      ...process.env,
      ...env,
      ...(env.DATABASE_URL && { DATABASE_URL: asRole(env.DATABASE_URL, `${args[0]}`) }),
      ...(env.DATABASE_LISTEN_URL && { DATABASE_LISTEN_URL: asRole(env.DATABASE_LISTEN_URL, `${args[0]}`) }),
    },
  })
  if (input !== undefined) child.stdin.end(input)
  const result: CommandResult = { code: null, out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    result.out += chunk
  })
  child.stderr.on('data', (chunk) => {
    result.err += chunk
  })
  await once(child, 'close')
  result.code = child.exitCode
  return result
}
