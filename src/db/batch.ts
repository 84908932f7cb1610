import pg from 'pg'

/** A statement, and who waits for its answer. */
export interface Statement {
  config: pg.QueryConfig
  callback(error: Error | null, result: pg.QueryResult): void
}

/** What pg's own `Query` does, beyond its types: it is asked for everything but the Sync. */
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
 * Statements that are sent in one piece, up to one Sync: in one round trip, and when one fails Postgres does none of those
 * behind it, a COMMIT included. `pg` takes it for a query.
 *
 * Source: PostgreSQL manual, "Extended Query" and "Pipelining".
 */
export class Batch implements pg.Submittable {
  readonly #queries: readonly Query[]
  /** The one whose answer comes next. */
  #current = 0

  /** @param types how `pg` reads values: the client's */
  constructor(statements: readonly Statement[], types: unknown) {
    this.#queries = statements.map(({ config, callback }) => {
      const query = new pg.Query(config, callback as never) as unknown as Query
      query._result._types ??= types
      return query
    })
  }

  /** `pg` notes by its name that a statement has been parsed. */
  get name(): string | undefined {
    return this.#queries[this.#current]?.name
  }

  get text(): string | undefined {
    return this.#queries[this.#current]?.text
  }

  submit(given: unknown): null {
    const connection = given as Connection
    const unsynced: Connection = Object.create(connection, { sync: { value() {} } })
    connection.stream.cork()
    try {
      for (const query of this.#queries) query.prepare(unsynced)
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

  /** Of the one whose turn it is. Those before it have their answers, though nothing of it will stay. */
  handleError(error: Error, connection: Connection): void {
    const [failed, ...behind] = this.#queries.slice(this.#current)
    const before = this.#queries.slice(0, this.#current)
    this.#current = this.#queries.length
    failed?.handleError(error, connection)
    for (const query of before) query.handleReadyForQuery(connection)
    for (const { name } of behind) {
      // It was not parsed.
      if (name && !(name in connection.parsedStatements)) delete connection.submittedNamedStatements[name]
    }
    // Whoever waits for all of them is to hear first what has failed.
    setImmediate(() => {
      for (const query of behind) query.handleError(skipped(error), connection)
    })
  }
}

/** As Postgres says it to those that are sent later: in_failed_sql_transaction. */
const skipped = (cause: Error): Error =>
  Object.assign(new Error('A statement that was sent before it has failed', { cause }), { code: '25P02' })
