import { hostname } from 'node:os'
import { type RawBuilder, sql } from 'kysely'
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
    await deleteWorkers(this.#database, sql`id = ${this.id}`)
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

/** Deletes the rows of processes that have not sent a heartbeat for ten minutes, and the names that no job needs. */
export async function deleteSilentWorkers(database: Database): Promise<void> {
  await deleteWorkers(database, sql`heartbeat_at < now() - interval '10 minutes'`)
  // A worker that ended before the oldest job was accepted had none of the jobs. The day allows for clocks that differ.
  await sql`
    delete from accepted.ended_worker
    where ended_at < coalesce((select created_at from accepted.job order by id limit 1), now()) - interval '1 day'`.execute(
    database.kysely,
  )
}

/** Deletes rows of `accepted.worker`, and keeps the names of the processes. */
async function deleteWorkers({ kysely }: Database, condition: RawBuilder<unknown>): Promise<void> {
  // Another worker may have deleted the row before, while the process was suspended.
  await sql`
    with ended as (delete from accepted.worker where ${condition} returning id, host, pid)
    insert into accepted.ended_worker (id, host, pid) select id, host, pid from ended
    on conflict on constraint ended_worker_pkey do update set ended_at = now()`.execute(kysely)
}
