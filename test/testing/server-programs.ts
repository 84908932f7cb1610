import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

const program = join(import.meta.dirname, 'fixtures/template-maker.ts')
const flags = ['--disable-warning=ExperimentalWarning', program]

/** What a program prints about its server. */
export interface Seen {
  url: string
  prefix: string
  template: string
  made: boolean
  /** The id of the server process. */
  pid: number
}

/** Creates a directory for temporary files, so that the programs find no server of other tests. */
export async function createTemporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-server-test-'))
  await chmod(directory, 0o755)
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Starts a program that connects to the server, gets a template, prints both, and ends with its input. */
export function startProgram(t: Test, TMPDIR: string, databaseUrl = '') {
  const child = spawn(process.execPath, [...flags, databaseUrl], {
    env: { ...process.env, TMPDIR },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  return {
    seen: once(child.stdout, 'data').then(([line]): Seen => JSON.parse(String(line))),
    end: () => child.stdin.end(),
    async kill() {
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

/** Returns the contents of the registrations of servers in a directory for temporary files. */
export async function readRegistrations(directory: string): Promise<string[]> {
  const [own] = (await readdir(directory)).filter((name) => name.startsWith('accepted-testing-'))
  const names = own ? await readdir(join(directory, own)) : []
  // A file may be removed meanwhile.
  const read = names.map((name) => readFile(join(directory, own as string, name), 'utf8').catch(() => undefined))
  return (await Promise.all(read)).filter((text) => text !== undefined)
}
