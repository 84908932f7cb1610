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

/** A `pg.Client` that tells its errors from others', and knows since when it has been waiting for an answer. */
export class TracedClient extends pg.Client {
  /** When the statement that is under way was sent, per `performance.now()`; undefined: none is. */
  busySince: number | undefined
  /** The backend's, as `pg_stat_activity` shows it; a pooler makes one up. */
  declare readonly processID: number | null
  #underWay = 0

  // biome-ignore lint/suspicious/noExplicitAny: pg's query is overloaded eight ways; all of them are passed on
  override query(text: any, values?: any, callback?: any): any {
    this.#begin()
    const own = callback ?? (typeof values === 'function' ? values : undefined)
    if (own) {
      const end = (error: Error, result: pg.QueryResult) => {
        this.#end()
        own(mark(error), result)
      }
      return callback ? super.query(text, values, end) : super.query(text, end as never)
    }
    const answer = super.query(text, values)
    // A cursor or a stream: it goes on for as long as its reader likes.
    if (typeof answer?.then !== 'function') {
      this.#end()
      return answer
    }
    return answer.then(
      (result: pg.QueryResult) => {
        this.#end()
        return result
      },
      (error: unknown) => {
        this.#end()
        throw mark(error)
      },
    )
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

/** A `pg.Pool` whose own errors, such as having no connection to give, are marked as well. */
export class TracedPool extends pg.Pool {
  // biome-ignore lint/suspicious/noExplicitAny: overloaded
  override connect(callback?: any): any {
    if (!callback) {
      return super.connect().catch((error: unknown) => {
        throw mark(error)
      })
    }
    return super.connect((error, client, release) => callback(mark(error), client, release))
  }
}
