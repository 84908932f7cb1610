import pg from 'pg'
import utils from 'pg/lib/utils.js'
import { Batch, type Statement } from './batch.ts'

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

const begins = /^(begin|start transaction)\b[^;]*$/i
const ends = /^(commit|rollback)$/i
const undoes = /^rollback\b/i

/** What Postgres answers to a statement that needs not be sent. */
const answerTo = (command: string) => ({ command, rowCount: null, rows: [], fields: [] })

type Callback = (error: unknown, result?: unknown) => void

/**
 * A `pg.Client` that tells its errors from others', knows since when it has been waiting for an answer, bounds how long a
 * transaction may stand still, and lets nothing slip outside of it: a statement that is sent beside others, one of which
 * has failed, would otherwise run after the ROLLBACK, and stay.
 *
 * Within a transaction, the statements of one turn of the event loop are sent together. So BEGIN, which goes with the
 * first of them, costs no round trip, and a COMMIT that is sent beside the last of them does not, either.
 */
export class TracedClient extends pg.Client {
  /** When the statement that is under way was sent, per `performance.now()`; undefined: none is. */
  busySince: number | undefined
  /** The backend's, as `pg_stat_activity` shows it; a pooler makes one up. */
  declare readonly processID: number | null
  #underWay = 0
  /** A BEGIN is due with the next statement, has been sent, or an end has been. */
  #transaction: 'none' | 'due' | 'begun' | 'ending' = 'none'
  /** The BEGIN that is due. */
  #opening = ''
  /** What is sent at the end of this turn. */
  #batch: Statement[] | undefined
  #fatal: Error | undefined

  constructor(config?: string | pg.ClientConfig) {
    super(config)
    // One that breaks while in use must not end the process; the statement that is under way rejects.
    this.on('error', (error) => {
      this.#fatal ??= error
    })
  }

  // biome-ignore lint/suspicious/noExplicitAny: pg's query is overloaded eight ways; all of them are passed on
  override query(given: any, values?: any, callback?: any): any {
    if (typeof given?.submit === 'function') return this.#submit(given, values, callback)
    const config: pg.QueryConfig = typeof given === 'string' ? { text: given } : { ...given }
    if (Array.isArray(values)) config.values = values
    const own: Callback | undefined = callback ?? (typeof values === 'function' ? values : given?.callback)
    if (own) {
      this.#send(config, own)
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#send(config, (error, result) => (error ? reject(error) : resolve(result)))
    return promise.catch((error) => {
      // Where it was sent, rather than where its answer was read.
      if (error instanceof Error) Error.captureStackTrace(error)
      throw error
    })
  }

  #send(config: pg.QueryConfig, callback: Callback): void {
    const { text = '', values } = config
    const tell = (error: unknown, command = '') => void process.nextTick(callback, error, answerTo(command))
    const isAlone = this.#transaction === 'none'
    const isEnd = ends.test(text)
    const unbindable = mapValues(config)
    if (unbindable) tell(unbindable)
    else if (this.#transaction === 'ending') {
      tell(new Error('The transaction is over: wait for each statement before it ends'))
    } else if (isAlone && begins.test(text)) {
      this.#transaction = 'due'
      this.#opening = text
      tell(null, 'BEGIN')
    } else if (isEnd && (this.#transaction === 'due' || this.#isOver())) {
      this.#transaction = 'none'
      tell(null, text.toUpperCase())
    } else if (isAlone || (!values?.length && text.includes(';')) || 'rows' in config) {
      // Several in one text cannot be sent beside others, nor one whose rows are read in pieces.
      this.#sendAlone(config, callback)
    } else this.#sendSoon(config, callback, isEnd)
  }

  /** After what was sent before it. */
  #sendAlone(config: pg.QueryConfig, callback: Callback): void {
    this.#open()
    this.#flush()
    this.#begin()
    super.query(config, (error: Error, result: pg.QueryResult) => {
      this.#end()
      callback(error && this.#mark(error), result)
    })
  }

  #sendSoon(config: pg.QueryConfig, callback: Callback, isEnd: boolean): void {
    this.#open()
    // It is to be done also when one before it fails.
    if (undoes.test(config.text)) this.#flush()
    this.#push(config, (error, result) => {
      // One that has failed is still to be rolled back.
      if (isEnd) this.#transaction = error ? 'begun' : 'none'
      callback(error && this.#mark(error), result)
    })
    if (isEnd) this.#transaction = 'ending'
  }

  /** A cursor or a stream goes on for as long as its reader likes. */
  #submit<T extends pg.Submittable>(query: T, ...more: unknown[]): T {
    this.#open()
    this.#flush()
    return super.query(query, ...(more as []))
  }

  /** Sends the BEGIN that is due. Should it fail, nothing may be done on this connection any more: it would be kept. */
  #open(): void {
    if (this.#transaction !== 'due') return
    this.#transaction = 'begun'
    const giveUp: Callback = (error) => error && this.abandon(error as Error)
    this.#push({ text: this.#opening }, giveUp)
    this.#push({ text: `set local idle_in_transaction_session_timeout = ${idleTimeout}` }, giveUp)
  }

  #push(config: pg.QueryConfig, callback: Callback): void {
    this.#begin()
    if (!this.#batch) {
      this.#batch = []
      // When those have had their turn that only wait for promises.
      queueMicrotask(() => process.nextTick(() => this.#flush()))
    }
    this.#batch.push({
      config,
      callback: (error, result) => {
        this.#end()
        callback(error, result)
      },
    })
  }

  #flush(): void {
    if (!this.#batch) return
    super.query(new Batch(this.#batch, (this as unknown as { _types: unknown })._types))
    this.#batch = undefined
  }

  /** Nothing is under way, and no transaction: it has ended already. */
  #isOver(): boolean {
    const { readyForQuery } = this as unknown as { readyForQuery: boolean }
    return this.#transaction === 'none' && readyForQuery && super.getTransactionStatus() === 'I'
  }

  /** A transaction was begun, and not ended. */
  isInTransaction(): boolean {
    return this.#transaction !== 'none' || super.getTransactionStatus() !== 'I'
  }

  override getTransactionStatus(): ReturnType<pg.Client['getTransactionStatus']> {
    return this.#transaction === 'due' ? 'T' : super.getTransactionStatus()
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

/**
 * Makes the values what they are on the wire; else pg finds out that one cannot be sent when half of the statement is.
 *
 * @returns the error of one that cannot be sent
 */
function mapValues(config: pg.QueryConfig): unknown {
  try {
    if (config.values) config.values = config.values.map(utils.prepareValue)
  } catch (error) {
    return error
  }
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
