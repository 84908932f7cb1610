import { connect, type Socket } from 'node:net'
import { settledWithin } from '../../src/primitives/timeout.ts'
import { greeting, type Reply, receive, type ServerAccess, send } from './protocol.ts'
import type { Entry } from './registry.ts'

type Template = Extract<Reply, { template: object }>['template']

/** How long a server process may take to greet on a busy machine. Other programs never greet. */
const greetingTimeoutMs = 30_000

/** The connection of a test process to the process that runs the test server. */
export class Connection {
  readonly #socket: Socket
  readonly #greeted = Promise.withResolvers<void>()
  readonly #access = Promise.withResolvers<ServerAccess>()
  readonly #templates = new Map<string, PromiseWithResolvers<Template>>()
  /** Resolves when the server process has ended. */
  readonly closed: Promise<void>

  constructor({ port, token }: Entry) {
    this.#socket = connect(port, '127.0.0.1')
    this.#socket.on('error', () => {})
    this.closed = new Promise((resolve) => this.#socket.once('close', () => resolve()))
    void this.closed.then(() => this.#fail(new ServerEnded('The process of the test server has ended')))
    for (const { promise } of [this.#greeted, this.#access]) promise.catch(() => {})
    receive<Reply>(this.#socket, (reply) => this.#handle(reply))
    this.#socket.once('connect', () => send(this.#socket, { token }))
  }

  /**
   * Resolves when Postgres has started.
   *
   * @throws ServerEnded when the process has ended, or another program uses its port now
   * @throws Error when Postgres could not start
   */
  async open(): Promise<ServerAccess> {
    if (!(await settledWithin(this.#greeted.promise, greetingTimeoutMs))) this.#socket.destroy()
    return this.#whileWaiting(this.#access.promise)
  }

  /** Waits until the template is made, or this process has to make it. */
  claim(key: string): Promise<Template> {
    const answer = Promise.withResolvers<Template>()
    this.#templates.set(key, answer)
    send(this.#socket, { claim: key })
    return this.#whileWaiting(answer.promise)
  }

  /** Reports that this process has made a template, or could not. */
  report(outcome: { made: string } | { failed: string }): void {
    send(this.#socket, outcome)
  }

  /** The open connection alone does not keep the test process from ending. */
  async #whileWaiting<Result>(answer: Promise<Result>): Promise<Result> {
    this.#socket.ref()
    try {
      return await answer
    } finally {
      this.#socket.unref()
    }
  }

  #handle(reply: Reply): void {
    if ('greeting' in reply && reply.greeting === greeting) this.#greeted.resolve()
    else if ('server' in reply) this.#access.resolve(reply.server)
    else if ('error' in reply) this.#access.reject(new Error(reply.error))
    else if ('template' in reply) this.#templates.get(reply.template.key)?.resolve(reply.template)
  }

  #fail(error: Error): void {
    for (const answer of [this.#greeted, this.#access, ...this.#templates.values()]) answer.reject(error)
  }
}

/** Thrown when a process of a test server has ended. */
export class ServerEnded extends Error {
  override name = 'ServerEnded'
}
