import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Connection, ServerEnded } from './connection.ts'
import type { ServerAccess, Start, Started } from './protocol.ts'
import { readEntries } from './registry.ts'

/** The test server, as a test process sees it. */
export interface TestServer extends ServerAccess {
  /**
   * Returns the name of a template database.
   *
   * @param key identifies the content of the template
   * @param make makes the template, if no process has made it yet; the other processes wait for it
   */
  template(key: string, make: (database: string) => Promise<void>): Promise<string>
}

const main = new URL(`./main${extname(import.meta.url)}`, import.meta.url)

/** More attempts than servers end at the moment at which a process connects to them. */
const maxAttempts = 20

/** How long a server waits for another test process. So test files that run one after the other share it. */
const defaultLingerMs = 10_000

const servers = new Map<string, Promise<TestServer>>()

/**
 * Connects to the server of this test run, and starts it if it does not run. It ends after the last test process.
 *
 * @param databaseUrl the URL of a running Postgres. Undefined: the test server has its own.
 * @param lingerMs how long a server that this call starts waits for another test process when the last one has ended
 */
export function connectTestServer(databaseUrl: string | undefined, lingerMs = defaultLingerMs): Promise<TestServer> {
  // The tests of another copy of the package have a server of their own, because its version may be another.
  const name = createHash('sha256').update(`${main} ${process.version} ${databaseUrl}`).digest('hex').slice(0, 16)
  let server = servers.get(name)
  if (!server) {
    server = findOrStart({ name, databaseUrl, lingerMs })
    servers.set(name, server)
    server.catch(() => servers.delete(name))
  }
  return server
}

async function findOrStart(start: Omit<Start, 'number'>): Promise<TestServer> {
  const { name } = start
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const [newest] = await readEntries(name)
    if (newest) {
      const connection = new Connection(newest)
      try {
        const access = await connection.open()
        // The next test of this process starts another server.
        void connection.closed.then(() => servers.delete(name))
        return { ...access, template: createTemplates(connection) }
      } catch (error) {
        if (!(error instanceof ServerEnded)) throw error
      }
    }
    await startProcess({ ...start, number: (newest?.number ?? 0) + 1 })
  }
  throw new Error(`The process of the test server has ended ${maxAttempts} times while this process connected to it.`)
}

/** Starts a server process. Resolves when this one, or that of another test process, is registered. */
async function startProcess(start: Start): Promise<void> {
  const { NODE_OPTIONS: _options, NODE_V8_COVERAGE: _coverage, ...env } = process.env
  const child = spawn(process.execPath, [fileURLToPath(main)], {
    // It outlives this process, and Ctrl-C in the terminal does not reach it.
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    // The options of the test runner are not for it, and it must not keep the directory of the project in use.
    ...{ cwd: tmpdir(), env },
  })
  const ended = once(child, 'exit').then(([code, signal]): Started => ({ error: `it ended with ${signal ?? code}` }))
  const answered = once(child, 'message').then(([started]) => started as Started)
  child.send(start)
  const started = await Promise.race([answered, ended])
  child.unref()
  if (typeof started === 'object') throw new Error(`The test server could not start: ${started.error}`)
}

function createTemplates(connection: Connection): TestServer['template'] {
  const byKey = new Map<string, Promise<string>>()
  const claim = async (key: string, make: (database: string) => Promise<void>) => {
    const { database, isMade } = await connection.claim(key)
    if (isMade) return database
    try {
      await make(database)
    } catch (error) {
      connection.report({ failed: key })
      byKey.delete(key)
      throw error
    }
    connection.report({ made: key })
    return database
  }
  return (key, make) => {
    const known = byKey.get(key)
    if (known) return known
    const database = claim(key, make)
    byKey.set(key, database)
    return database
  }
}
