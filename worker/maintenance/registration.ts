import { hostname } from 'node:os'
import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { packageVersion } from '../../src/primitives/version.ts'

/** The row of this process in `accepted.worker`. */
export class Registration {
  readonly #database: Database
  /** UUIDv7. */
  readonly id: string
  readonly #operations: readonly string[]
  /** Resolves when the writes that have begun are done. */
  #written: Promise<unknown> = Promise.resolve()

  constructor(database: Database, id: string, operations: readonly string[]) {
    this.#database = database
    this.id = id
    this.#operations = operations
  }

  /** Writes the row with a new heartbeat. Another worker may have deleted the row while this process was suspended. */
  write(status: 'ready' | 'draining'): Promise<void> {
    const written = this.#upsert(status)
    this.#written = Promise.allSettled([this.#written, written])
    return written
  }

  /** Deletes the row after the writes that have begun: a later one would insert it again. */
  async delete(): Promise<void> {
    await this.#written
    await sql`delete from accepted.worker where id = ${this.id}`.execute(this.#database.kysely)
  }

  async #upsert(status: 'ready' | 'draining'): Promise<void> {
    await sql`
      insert into accepted.worker (id, host, pid, version, operations, status)
      values (
        ${this.id}, ${hostname()}, ${process.pid}, ${packageVersion()}, ${this.#operations}::text[], ${status}
      )
      on conflict on constraint worker_pkey do update set heartbeat_at = now(), status = excluded.status`.execute(
      this.#database.kysely,
    )
  }
}

/** Deletes the rows of processes that have not sent a heartbeat for ten minutes. */
export async function deleteSilentWorkers({ kysely }: Database): Promise<void> {
  await sql`delete from accepted.worker where heartbeat_at < now() - interval '10 minutes'`.execute(kysely)
}
