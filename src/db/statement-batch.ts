import pg from 'pg'
import utils from 'pg/lib/utils.js'

/** A statement and the callback that gets its answer. */
export interface Statement {
  config: pg.QueryConfig
  callback(error: Error | null, result: pg.QueryResult): void
}

/** The parts of pg's own `Query` that its types leave out. */
interface PgQuery {
  name: string | undefined
  text: string
  _result: { _types: unknown }
  prepare(connection: PgConnection): void
  handleRowDescription(message: unknown): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, connection: PgConnection): void
  handleEmptyQuery(connection: PgConnection): void
  handleCopyInResponse(connection: PgConnection): void
  handleCopyData(message: unknown, connection: PgConnection): void
  handleReadyForQuery(connection: PgConnection): void
  handleError(error: Error, connection: PgConnection): void
}

interface PgConnection {
  stream: { cork(): void; uncork(): void }
  sync(): void
  parsedStatements: Record<string, string>
  submittedNamedStatements: Record<string, string>
}

/**
 * Statements that are sent in one write, with one Sync at the end. They need only one round trip. When a statement
 * fails, Postgres skips the later statements, including a COMMIT. To `pg`, the batch is a single query.
 *
 * pg's own pipeline mode is not used, because it sends a Sync after every statement. When BEGIN fails in that mode, the
 * later statements run outside a transaction.
 *
 * Source: PostgreSQL manual, "Extended Query" and "Pipelining".
 */
export class StatementBatch implements pg.Submittable {
  readonly #queries: readonly PgQuery[]
  /** Index of the query whose answer comes next. */
  #current = 0

  /** @param types the client's type parsers */
  constructor(statements: readonly Statement[], types: unknown) {
    this.#queries = statements.map(({ config, callback }) => {
      const query = new pg.Query(config, callback as never) as unknown as PgQuery
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
    const connection = given as PgConnection
    const withoutSync: PgConnection = Object.create(connection, { sync: { value() {} } })
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

  handleCommandComplete(message: unknown, connection: PgConnection): void {
    this.#queries[this.#current++]?.handleCommandComplete(message, connection)
  }

  handleEmptyQuery(connection: PgConnection): void {
    this.#queries[this.#current++]?.handleEmptyQuery(connection)
  }

  handleCopyInResponse(connection: PgConnection): void {
    this.#queries[this.#current]?.handleCopyInResponse(connection)
  }

  handleCopyData(message: unknown, connection: PgConnection): void {
    this.#queries[this.#current]?.handleCopyData(message, connection)
  }

  handleReadyForQuery(connection: PgConnection): void {
    for (const query of this.#queries) query.handleReadyForQuery(connection)
  }

  /**
   * Rejects the current statement with the error, and the later statements with 25P02. Earlier statements still resolve
   * with their answers, although the transaction will be rolled back.
   */
  handleError(error: Error, connection: PgConnection): void {
    const [failed, ...skipped] = this.#queries.slice(this.#current)
    const answered = this.#queries.slice(0, this.#current)
    this.#current = this.#queries.length
    failed?.handleError(error, connection)
    for (const query of answered) query.handleReadyForQuery(connection)
    for (const { name } of skipped) {
      // Postgres has not parsed this statement, so its text must be sent again at the next use.
      if (name && !(name in connection.parsedStatements)) delete connection.submittedNamedStatements[name]
    }
    // The skipped statements reject later, so that a caller that waits for all statements gets the original error
    // first.
    setImmediate(() => {
      for (const query of skipped) query.handleError(skippedError(error), connection)
    })
  }
}

/** The error that Postgres gives to a statement in a failed transaction: in_failed_sql_transaction. */
const skippedError = (cause: Error): Error =>
  Object.assign(new Error('Skipped: a statement sent before it has failed', { cause }), { code: '25P02' })

/**
 * Encodes the values of a statement before the statement is sent. Otherwise pg would detect an invalid value only after
 * it has written half of the statement.
 *
 * @returns the error of a value that cannot be encoded
 */
export function encodeValues(config: pg.QueryConfig): unknown {
  try {
    if (config.values) config.values = config.values.map(utils.prepareValue)
  } catch (error) {
    return error
  }
}
