import { sql } from 'kysely'
import type { Database } from '../src/db/database.ts'
import { RecentMap } from '../src/recent-map.ts'

/** Tells running handlers that their job is to be canceled. */
export interface Cancellations {
  /** @returns stops watching */
  watch(id: string, onCancel: () => void): () => void
  /** A hint: these are to be canceled. */
  hint(ids: Iterable<string>): void
  /** The floor under the hints: looks whether one of those that run here is to be canceled. */
  look(): Promise<void>
}

/** Hints that are remembered, for a job may be about to be watched. */
const mostRemembered = 1_000

export function createCancellations({ kysely }: Database): Cancellations {
  const running = new Map<string, () => void>()
  const hinted = new RecentMap<true>(mostRemembered)
  const hint = (ids: Iterable<string>) => {
    for (const id of ids) {
      const cancel = running.get(id)
      if (cancel) cancel()
      else hinted.set(id, true)
    }
  }
  return {
    watch(id, onCancel) {
      running.set(id, onCancel)
      if (hinted.get(id)) onCancel()
      return () => {
        // A later attempt may have taken its place.
        if (running.get(id) === onCancel) running.delete(id)
      }
    },
    hint,
    async look() {
      if (running.size === 0) return
      const ids = [...running.keys()].sort()
      const { rows } = await sql<{ id: string }>`
        select id from accepted.job
        where id = any(${ids}::uuid[]) and id between ${ids[0]} and ${ids.at(-1)} and cancel_requested`.execute(kysely)
      hint(rows.map(({ id }) => id))
    },
  }
}
