/**
 * The process that runs the test server. The first test process starts it, and all test processes share it. It ends a
 * few seconds after the last of them.
 */
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { createTemporaryDataDir } from '../../src/embedded-postgres/temporary.ts'
import { isListening } from './is-listening.ts'
import { removeAbandoned, startOwn, type TestPostgres, useRunning } from './postgres.ts'
import { greeting, type Reply, type Request, receive, type Start, type Started, send } from './protocol.ts'
import { readEntries, register, unregister } from './registry.ts'
import { Templates } from './templates.ts'

/** How long the server waits for the first test process, which has started it. */
const firstLingerMs = 10_000

class TestServer {
  readonly #start: Start
  readonly #token = randomBytes(24).toString('base64url')
  readonly #server = createServer((socket) => this.#greet(socket))
  readonly #sockets = new Set<Socket>()
  #dataDir: string | undefined
  #postgres: Promise<TestPostgres> | undefined
  #templates: Templates | undefined
  #timer: NodeJS.Timeout | undefined
  #lingerMs: number
  #closing: Promise<void> | undefined

  constructor(start: Start) {
    this.#start = start
    this.#lingerMs = start.lingerMs
  }

  /** @returns whether this process runs the server; false when another process does */
  async start(): Promise<boolean> {
    const { name, number, databaseUrl } = this.#start
    this.#server.listen(0, '127.0.0.1')
    await new Promise((resolve) => this.#server.once('listening', resolve))
    const { port } = this.#server.address() as AddressInfo
    if (!databaseUrl) this.#dataDir = await createTemporaryDataDir('accepted-testing-')
    if (!(await register(name, number, { port, token: this.#token, dataDir: this.#dataDir }))) {
      this.#server.close()
      if (this.#dataDir) await rm(this.#dataDir, { recursive: true })
      return false
    }
    this.#postgres = this.#open()
    this.#postgres.catch(() => {})
    this.#endLater(firstLingerMs)
    process.on('SIGTERM', () => this.#end())
    return true
  }

  async #open(): Promise<TestPostgres> {
    const { name, number, databaseUrl } = this.#start
    for (const entry of await readEntries(name)) {
      if (entry.number >= number || (await isListening(entry.port))) continue
      if (entry.dataDir) await removeAbandoned(entry.dataDir)
      await unregister(name, entry.number)
    }
    const postgres = databaseUrl ? await useRunning(databaseUrl) : await startOwn(this.#dataDir as string)
    this.#templates = new Templates(postgres.prefix)
    return postgres
  }

  #greet(socket: Socket): void {
    socket.on('error', () => {})
    send(socket, { greeting })
    receive<Request>(socket, (request) => {
      if (this.#sockets.has(socket)) this.#answer(socket, request)
      else if ('token' in request && request.token === this.#token) void this.#admit(socket)
      else socket.destroy()
    })
  }

  async #admit(socket: Socket): Promise<void> {
    this.#sockets.add(socket)
    clearTimeout(this.#timer)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      this.#templates?.left(socket)
      if (this.#sockets.size === 0) this.#endLater(this.#lingerMs)
    })
    try {
      const { url, prefix } = (await this.#postgres) as TestPostgres
      send(socket, { server: { url, prefix, pid: process.pid } })
    } catch (error) {
      // Another process can try again at once.
      this.#lingerMs = 0
      socket.end(`${JSON.stringify({ error: (error as Error).message } satisfies Reply)}\n`)
    }
  }

  #answer(socket: Socket, request: Request): void {
    if ('claim' in request) this.#templates?.claim(socket, request.claim)
    if ('made' in request) this.#templates?.made(socket, request.made)
    if ('failed' in request) this.#templates?.failed(socket, request.failed)
  }

  #endLater(afterMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#end(), afterMs)
  }

  #end(): void {
    this.#closing ??= this.#close()
  }

  async #close(): Promise<void> {
    const { name, number } = this.#start
    // A client that cannot connect any more starts another server.
    this.#server.close()
    await unregister(name, number)
    const postgres = await this.#postgres?.catch(() => undefined)
    await postgres?.close()
    if (this.#dataDir) await rm(this.#dataDir, { recursive: true, force: true })
    process.exit()
  }
}

process.once('message', async (start: Start) => {
  const answer = (started: Started) => process.send?.(started, () => process.disconnect())
  try {
    answer((await new TestServer(start).start()) ? 'registered' : 'lost')
  } catch (error) {
    answer({ error: (error as Error).message })
  }
})
