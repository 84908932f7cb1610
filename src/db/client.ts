import pg from 'pg'

/** Errors that Postgres, or the way to it, has given us; an app's own services fail with the same codes. */
const ours = new WeakSet<object>()

const mark = <Thrown>(error: Thrown): Thrown => {
  if (typeof error === 'object' && error !== null) ours.add(error)
  return error
}

/** Whether an error, or its cause, came from one of our connections to Postgres. */
export function isFromPostgres(error: unknown): boolean {
  for (let current = error; current instanceof Error; current = current.cause) if (ours.has(current)) return true
  return false
}

/**
 * So long Postgres waits for the next statement of a transaction, in milliseconds. Then whoever began it was stopped or cut
 * off, and others wait for his locks.
 */
const idleTimeout = 30_000

const begins = /^(begin|start transaction)\b/i
const ends = /^(commit|rollback)$/i

/** What Postgres answers to a statement that needs not be sent. */
const answerTo = (command: string) => ({ command, rowCount: null, rows: [], fields: [] })

/**
 * A `pg.Client` that tells its errors from others', knows since when it has been waiting for an answer, bounds how long a
 * transaction may stand still, and lets nothing slip behind its end: a statement that is sent beside others, one of which
 * has failed, would otherwise run after the ROLLBACK, and stay.
 *
 * With `pipeline` a transaction costs no round trip to begin: BEGIN goes with its first statement.
 */
export class TracedClient extends pg.Client {
  /** When the statement that is under way was sent, per `performance.now()`; undefined: none is. */
  busySince: number | undefined
  /** The backend's, as `pg_stat_activity` shows it; a pooler makes one up. */
  declare readonly processID: number | null
  #underWay = 0
  #isEnding = false
  /** A BEGIN that goes with the next statement. */
  #opening: string | undefined
  #fatal: Error | undefined

  constructor(config?: string | pg.ClientConfig) {
    super(config)
    // One that breaks while in use must not end the process; the statement that is under way rejects.
    this.on('error', (error) => {
      this.#fatal ??= error
    })
  }

  // biome-ignore lint/suspicious/noExplicitAny: pg's query is overloaded eight ways; all of them are passed on
  override query(text: any, values?: any, callback?: any): any {
    const own = callback ?? (typeof values === 'function' ? values : undefined)
    if (this.#isEnding) {
      const error = new Error('The transaction is over: wait for each statement before it ends')
      return own ? own(error) : Promise.reject(error)
    }
    if (typeof text === 'string' && begins.test(text)) {
      // One message, so that it costs no round trip of its own.
      const opening = `${text}; set local idle_in_transaction_session_timeout = ${idleTimeout}`
      if (!this.pipeline || text.includes(';')) return this.#send(opening, undefined, own)
      this.#opening = opening
      return pretend('BEGIN', own)
    }
    const isEnd = typeof text === 'string' && ends.test(text)
    if (isEnd && (this.#opening !== undefined || this.#isOver())) {
      this.#opening = undefined
      return pretend(text.toUpperCase(), own)
    }
    if (isEnd) this.#isEnding = true
    return this.#send(text, typeof values === 'function' ? undefined : values, own, isEnd)
  }

  // biome-ignore lint/suspicious/noExplicitAny: what pg's query takes and returns, in any of its overloads
  #send(text: any, values: any, callback: any, isEnd = false): any {
    const done = () => {
      if (isEnd) this.#isEnding = false
      this.#end()
    }
    const opened = this.#open()
    this.#begin()
    if (callback) {
      return super.query(text, values, (error: Error, result: pg.QueryResult) => {
        done()
        callback(error && this.#mark(error), result)
      })
    }
    const answer = super.query(text, values)
    // A cursor or a stream: it goes on for as long as its reader likes.
    if (typeof answer?.then !== 'function') {
      done()
      return answer
    }
    return answer.then(
      async (result: pg.QueryResult) => {
        done()
        await opened
        return result
      },
      (error: unknown) => {
        done()
        throw this.#mark(error)
      },
    )
  }

  /** Nothing is under way, and no transaction: it has ended already. */
  #isOver(): boolean {
    return this.#underWay === 0 && super.getTransactionStatus() === 'I'
  }

  /** Sends the BEGIN that is due; what is sent next is sent behind it. */
  #open(): Promise<unknown> | undefined {
    if (this.#opening === undefined) return undefined
    const opening = this.#opening
    this.#opening = undefined
    this.#begin()
    const opened = super.query(opening).finally(() => this.#end())
    // Only a connection that breaks fails it, and then what is behind it as well.
    opened.catch(() => {})
    return opened
  }

  override getTransactionStatus(): ReturnType<pg.Client['getTransactionStatus']> {
    return this.#opening === undefined ? super.getTransactionStatus() : 'T'
  }

  /** Once Postgres has ended the connection, why it did says more than that it has. */
  #mark(error: unknown): unknown {
    const isAfterwards = error instanceof Error && error.message.includes('encountered a connection error')
    return mark(isAfterwards ? (this.#fatal ?? error) : error)
  }

  /** Breaks the connection, so that whoever waits on it need not any longer. */
  abandon(reason: Error): void {
    const { connection } = this as unknown as { connection: { stream: { destroy(error: Error): void } } }
    connection.stream.destroy(reason)
  }

  #begin() {
    if (this.#underWay++ === 0) this.busySince = performance.now()
  }

  #end() {
    this.busySince = --this.#underWay === 0 ? undefined : performance.now()
  }
}

type Callback = (error: null, result: ReturnType<typeof answerTo>) => void

function pretend(command: string, callback: Callback | undefined): Promise<unknown> | undefined {
  if (!callback) return Promise.resolve(answerTo(command))
  process.nextTick(callback, null, answerTo(command))
}

/** A connection beside the pool. */
export async function connectAlone(config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(config)
  // What breaks it rejects the statement that is under way; unheard, it would end the process as well.
  client.on('error', () => {})
  await client.connect()
  return client
}

/** A `pg.Pool` whose own errors, such as having no connection to give, are marked as well. */
export class TracedPool extends pg.Pool {
  // biome-ignore lint/suspicious/noExplicitAny: pg's connect returns a promise, or nothing when it is given a callback
  override connect(callback?: any): any {
    if (!callback) {
      return super.connect().catch((error: unknown) => {
        throw mark(error)
      })
    }
    return super.connect((error, client, release) => callback(mark(error), client, release))
  }
}
