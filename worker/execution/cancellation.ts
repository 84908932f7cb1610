import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import { runWithGenericPlan } from '../../src/db/plan-settings.ts'
import { idIn } from '../../src/jobs/job.ts'
import { BoundedMap } from '../../src/primitives/bounded-map.ts'

/**
 * Passes cancel requests on to the running handlers of this process. The requests arrive as notifications on the
 * channel `cancel` (see runtime.ts). The executor watches each running job. When a cancel request arrives for a job,
 * the executor aborts the job's signal.
 */
export interface Cancellations {
  /** @returns a function that stops watching */
  watch(jobId: string, onCancel: () => void): () => void
  /** Passes on the cancel requests of a notification. */
  request(jobIds: Iterable<string>): void
  /** Finds cancel requests whose notification was lost, for the jobs that run in this process. */
  poll(): Promise<void>
}

/** Requests are remembered, because a notification may arrive shortly before its job is watched. */
const maxRememberedRequests = 1_000

export function createCancellations({ kysely }: Database): Cancellations {
  const watched = new Map<string, () => void>()
  const remembered = new BoundedMap<true>(maxRememberedRequests)
  const request = (jobIds: Iterable<string>) => {
    for (const id of jobIds) {
      const cancel = watched.get(id)
      if (cancel) cancel()
      else remembered.set(id, true)
    }
  }
  return {
    watch(jobId, onCancel) {
      watched.set(jobId, onCancel)
      if (remembered.get(jobId)) onCancel()
      return () => {
        // A later attempt may have replaced the entry.
        if (watched.get(jobId) === onCancel) watched.delete(jobId)
      }
    },
    request,
    async poll() {
      if (watched.size === 0) return
      const statement = sql<{ id: string }>`
        select id from accepted.job where ${idIn([...watched.keys()])} and cancel_requested`
      const { rows } = await runWithGenericPlan(kysely, statement)
      request(rows.map(({ id }) => id))
    },
  }
}
