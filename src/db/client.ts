import type pg from 'pg'
import { PinnedClient } from './pinned-client.ts'
import { markPostgresError, markStaleError } from './postgres-error.ts'
import { errorCode, isStaleFunction, sqlstate } from './sqlstate.ts'
import { encodeValues, type Statement, StatementBatch } from './statement-batch.ts'

/**
 * Postgres closes a connection whose transaction has been idle for this long. The client has probably stopped or lost
 * the connection, and other transactions may be waiting for its locks.
 */
const idleInTransactionTimeoutMs = 30_000

const beginPattern = /^(begin|start transaction)\b[^;]*$/i
/** The COMMIT of work in a transaction of Kysely, which will send another COMMIT or a ROLLBACK after the work. */
export const earlyCommit = 'commit work'

const endPattern = /^(commit( work)?|rollback)$/i
const rollbackPattern = /^rollback\b/i

/** Returns the result of a BEGIN, COMMIT or ROLLBACK that is not sent to Postgres. */
const localResult = (command: string) => ({ command, rowCount: null, rows: [], fields: [] })

type Callback = (error: unknown, result?: unknown) => void

/**
 * A client that saves round trips and keeps statements inside their transaction. It also marks the errors that
 * come from Postgres, records how long it has been waiting for an answer, and limits how long a transaction may be
 * idle.
 *
 * Within a transaction, the client sends all statements of one turn of the event loop together. It sends BEGIN together
 * with the first statement, and it can send COMMIT together with the last statements. So neither BEGIN nor COMMIT needs
 * a round trip of its own. Once COMMIT or ROLLBACK has been sent, the client rejects further statements: they would run
 * outside the transaction, and a ROLLBACK would not undo them. After an {@link earlyCommit} or a failed COMMIT, it
 * rejects them until the next COMMIT, ROLLBACK or BEGIN.
 */
export class PipelinedClient extends PinnedClient {
  /**
   * The time since which the client has been waiting for an answer, as `performance.now()`. Undefined when no statement
   * is in progress.
   */
  busySince: number | undefined
  /** The process id of the backend, as in `pg_stat_activity`. Behind a pooler, it is an invented number. */
  declare readonly processID: number | null
  /** Whether a function of the session fails until a new session compiles it. */
  hasStaleFunction = false
  #statementsInProgress = 0
  /**
   * `pending`: BEGIN will be sent with the next statement. `ending`: COMMIT or ROLLBACK was sent but not yet answered.
   * `ended`: another COMMIT or a ROLLBACK will follow.
   */
  #transaction: 'none' | 'pending' | 'begun' | 'ending' | 'ended' = 'none'
  /** The text of the pending BEGIN. */
  #beginText = ''
  /** The statements to send at the end of this turn. */
  #batch: Statement[] | undefined
  #connectionError: Error | undefined

  constructor(config?: string | pg.ClientConfig) {
    super(config)
    // Without a listener, the process would end when a connection breaks. The caller gets the error anyway, because the
    // statement in progress rejects.
    this.on('error', (error) => {
      this.#connectionError ??= error
    })
  }

  // biome-ignore lint/suspicious/noExplicitAny: pg overloads query eight ways, and all of them are passed on
  override query(given: any, values?: any, callback?: any): any {
    if (typeof given?.submit === 'function') return this.#submit(given, values, callback)
    const config: pg.QueryConfig = typeof given === 'string' ? { text: given } : { ...given }
    if (Array.isArray(values)) config.values = values
    const givenCallback: Callback | undefined = callback ?? (typeof values === 'function' ? values : given?.callback)
    if (givenCallback) {
      this.#send(config, givenCallback)
      return
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#send(config, (error, result) => (error ? reject(error) : resolve(result)))
    return promise.catch((error) => {
      // Makes the stack trace show the caller of `query` instead of the socket's read handler.
      if (error instanceof Error) Error.captureStackTrace(error)
      throw error
    })
  }

  #send(config: pg.QueryConfig, callback: Callback): void {
    const { text = '', values } = config
    const answer = (error: unknown, command = '') => void process.nextTick(callback, error, localResult(command))
    const isOutside = this.#transaction === 'none'
    const isBegin = beginPattern.test(text) && (isOutside || this.#isOver())
    const isEnd = endPattern.test(text)
    const invalidValue = encodeValues(config)
    if (invalidValue) answer(invalidValue)
    else if (this.#transaction === 'ending' || (this.#transaction === 'ended' && !isEnd && !isBegin)) {
      answer(new Error('The transaction has ended: await every statement before you send COMMIT or ROLLBACK'))
    } else if (isBegin) {
      this.#transaction = 'pending'
      this.#beginText = text
      answer(null, 'BEGIN')
    } else if (isEnd && (this.#transaction === 'pending' || this.#isOver())) {
      this.#transaction = 'none'
      answer(null, text.toUpperCase())
    } else if (isOutside || (!values?.length && text.includes(';')) || 'rows' in config) {
      // A text with several statements, or a query that reads its rows in parts, cannot share a Sync with other
      // statements.
      this.#sendAlone(config, callback)
    } else this.#sendBatched(config, callback, isEnd)
  }

  #sendAlone(config: pg.QueryConfig, callback: Callback): void {
    this.#sendPendingBegin()
    this.#sendBatch()
    this.#countSent()
    super.query(config, (error: Error, result: pg.QueryResult) => {
      this.#countAnswered()
      callback(error && this.#mark(error), result)
    })
  }

  #sendBatched(config: pg.QueryConfig, callback: Callback, isEnd: boolean): void {
    this.#sendPendingBegin()
    // ROLLBACK must run even when an earlier statement fails, so ROLLBACK is sent in a batch of its own.
    if (rollbackPattern.test(config.text)) this.#sendBatch()
    this.#addToBatch(config, (error, result) => {
      if (isEnd) this.#transaction = error || config.text === earlyCommit ? 'ended' : 'none'
      callback(error && this.#mark(error), result)
    })
    if (isEnd) this.#transaction = 'ending'
  }

  /** Sends a cursor or a stream alone, because its caller decides how long to read from it. */
  #submit<T extends pg.Submittable>(query: T, ...more: unknown[]): T {
    this.#sendPendingBegin()
    this.#sendBatch()
    return super.query(query, ...(more as []))
  }

  /**
   * Adds the pending BEGIN to the batch. If BEGIN fails, breaks the connection, because later statements would commit
   * one by one.
   */
  #sendPendingBegin(): void {
    if (this.#transaction !== 'pending') return
    this.#transaction = 'begun'
    const breakOnError: Callback = (error) => error && this.breakConnection(error as Error)
    this.#addToBatch({ text: this.#beginText }, breakOnError)
    const setIdleTimeout = `set local idle_in_transaction_session_timeout = ${idleInTransactionTimeoutMs}`
    this.#addToBatch({ text: setIdleTimeout }, breakOnError)
  }

  #addToBatch(config: pg.QueryConfig, callback: Callback): void {
    this.#countSent()
    if (!this.#batch) {
      this.#batch = []
      // Sends the batch after the promise callbacks of this turn, because these callbacks may add statements.
      queueMicrotask(() => process.nextTick(() => this.#sendBatch()))
    }
    this.#batch.push({
      config,
      callback: (error, result) => {
        this.#countAnswered()
        callback(error, result)
      },
    })
  }

  #sendBatch(): void {
    if (!this.#batch) return
    super.query(new StatementBatch(this.#batch, (this as unknown as { _types: unknown })._types))
    this.#batch = undefined
  }

  /** Whether the transaction has ended in Postgres too. After a failed COMMIT, it may have to be rolled back. */
  #isOver(): boolean {
    const { readyForQuery } = this as unknown as { readyForQuery: boolean }
    return this.#transaction === 'ended' && readyForQuery && super.getTransactionStatus() === 'I'
  }

  /** Whether a transaction was begun and has not ended. */
  isInTransaction(): boolean {
    return this.#transaction !== 'none' || super.getTransactionStatus() !== 'I'
  }

  override getTransactionStatus(): ReturnType<pg.Client['getTransactionStatus']> {
    return this.#transaction === 'pending' ? 'T' : super.getTransactionStatus()
  }

  /**
   * Marks an error as an error from Postgres, and returns it. If the error only says that the connection failed
   * earlier, marks and returns the original error of the connection.
   */
  #mark(error: unknown): unknown {
    const isConsequence = error instanceof Error && error.message.includes('encountered a connection error')
    const original = isConsequence ? (this.#connectionError ?? error) : error
    if (errorCode(original) === sqlstate.readOnlySqlTransaction) this.recordRefusedWrite()
    if (isStaleFunction(original)) {
      this.hasStaleFunction = true
      markStaleError(original)
    }
    return markPostgresError(original)
  }

  /** Closes the socket. Statements in progress then reject, and no longer wait for an answer. */
  breakConnection(reason: Error): void {
    const { connection } = this as unknown as { connection: { stream: { destroy(error: Error): void } } }
    connection.stream.destroy(reason)
  }

  #countSent() {
    if (this.#statementsInProgress++ === 0) this.busySince = performance.now()
  }

  #countAnswered() {
    this.busySince = --this.#statementsInProgress === 0 ? undefined : performance.now()
  }
}
