import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const main = join(import.meta.dirname, '../../src/cli/main.ts')

/** What a command printed, and its exit code. */
export interface Ran {
  code: number | null
  out: string
  err: string
}

/** Runs a command of the product to its end. */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const child = spawn(process.execPath, ['--conditions=accepted-source', main, ...args], {
    env: { ...process.env, ...env },
  })
  const ran: Ran = { code: null, out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    ran.out += chunk
  })
  child.stderr.on('data', (chunk) => {
    ran.err += chunk
  })
  await once(child, 'close')
  ran.code = child.exitCode
  return ran
}
