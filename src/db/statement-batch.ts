import pg from 'pg'

/** A statement and the callback that gets its answer. */
export interface Statement {
  config: pg.QueryConfig
  callback(error: Error | null, result: pg.QueryResult): void
}

/** The parts of pg's own `Query` that its types leave out. */
interface Query {
  name: string | undefined
  text: string
  _result: { _types: unknown }
  prepare(connection: Connection): void
  handleRowDescription(message: unknown): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, connection: Connection): void
  handleEmptyQuery(connection: Connection): void
  handleCopyInResponse(connection: Connection): void
  handleCopyData(message: unknown, connection: Connection): void
  handleReadyForQuery(connection: Connection): void
  handleError(error: Error, connection: Connection): void
}

interface Connection {
  stream: { cork(): void; uncork(): void }
  sync(): void
  parsedStatements: Record<string, string>
  submittedNamedStatements: Record<string, string>
}

/**
 * Statements that are sent in one write with one Sync at the end. They take one round trip, and when one fails Postgres
 * skips those behind it, a COMMIT included. To `pg` the batch is a single query.
 *
 * pg's own pipeline mode sends a Sync after every statement: when BEGIN fails, the statements behind it would run
 * outside a transaction.
 *
 * Source: PostgreSQL manual, "Extended Query" and "Pipelining".
 */
export class StatementBatch implements pg.Submittable {
  readonly #queries: readonly Query[]
  /** Index of the query whose answer comes next. */
  #current = 0

  /** @param types the client's type parsers */
  constructor(statements: readonly Statement[], types: unknown) {
    this.#queries = statements.map(({ config, callback }) => {
      const query = new pg.Query(config, callback as never) as unknown as Query
      query._result._types ??= types
      return query
    })
  }

  /** The name under which `pg` remembers that Postgres has parsed the current statement. */
  get name(): string | undefined {
    return this.#queries[this.#current]?.name
  }

  get text(): string | undefined {
    return this.#queries[this.#current]?.text
  }

  submit(given: unknown): null {
    const connection = given as Connection
    const withoutSync: Connection = Object.create(connection, { sync: { value() {} } })
    connection.stream.cork()
    try {
      for (const query of this.#queries) query.prepare(withoutSync)
      connection.sync()
    } finally {
      connection.stream.uncork()
    }
    return null
  }

  handleRowDescription(message: unknown): void {
    this.#queries[this.#current]?.handleRowDescription(message)
  }

  handleDataRow(message: unknown): void {
    this.#queries[this.#current]?.handleDataRow(message)
  }

  handleCommandComplete(message: unknown, connection: Connection): void {
    this.#queries[this.#current++]?.handleCommandComplete(message, connection)
  }

  handleEmptyQuery(connection: Connection): void {
    this.#queries[this.#current++]?.handleEmptyQuery(connection)
  }

  handleCopyInResponse(connection: Connection): void {
    this.#queries[this.#current]?.handleCopyInResponse(connection)
  }

  handleCopyData(message: unknown, connection: Connection): void {
    this.#queries[this.#current]?.handleCopyData(message, connection)
  }

  handleReadyForQuery(connection: Connection): void {
    for (const query of this.#queries) query.handleReadyForQuery(connection)
  }

  /**
   * Fails the current statement with the error and those behind it with 25P02. Those before it still resolve with their
   * answers, although the transaction will be rolled back.
   */
  handleError(error: Error, connection: Connection): void {
    const [failed, ...skipped] = this.#queries.slice(this.#current)
    const answered = this.#queries.slice(0, this.#current)
    this.#current = this.#queries.length
    failed?.handleError(error, connection)
    for (const query of answered) query.handleReadyForQuery(connection)
    for (const { name } of skipped) {
      // Postgres has not parsed the statement, so the next use must send its text again.
      if (name && !(name in connection.parsedStatements)) delete connection.submittedNamedStatements[name]
    }
    // Later, so that a caller that waits for all statements sees the original error first.
    setImmediate(() => {
      for (const query of skipped) query.handleError(skippedError(error), connection)
    })
  }
}

/** The error that Postgres gives to a statement in a failed transaction: in_failed_sql_transaction. */
const skippedError = (cause: Error): Error =>
  Object.assign(new Error('Skipped: a statement sent before it has failed', { cause }), { code: '25P02' })
