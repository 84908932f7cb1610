import pg from 'pg'
import { createNote } from '../app/operations.ts'
import { withQueue } from '../core/our-queue.ts'
import type { Contender } from '../core/scenario.ts'
import { query } from '../core/server.ts'
import { quantile } from '../core/stats.ts'

export interface ClaimLoad {
  claims: number
  jobsPerClaim: number
}

/** Claims in turn, without a worker, from a queue with `size` jobs of `principals` principals. */
export const claims = (size: number, principals: number): Contender<ClaimLoad> => ({
  name: `${size.toLocaleString('en-US')} jobs`,
  async open({ server }) {
    const database = `claims_${size}`
    const url = await server.createOurs(database)
    await withQueue(url, [createNote], async () => {})
    await fill(url, size, principals)
    return {
      async measure({ claims, jobsPerClaim }) {
        const client = new pg.Client({ connectionString: url })
        await client.connect()
        const times: number[] = []
        try {
          let last: unknown[] = [null, null]
          for (let count = 0; count < claims; count++) {
            const startedAt = performance.now()
            const { rows } = await client.query({
              name: 'claim',
              text: 'select * from accepted.claim_in_turn($1, $2, $3, $4)',
              values: [createNote.name, jobsPerClaim, ...last],
            })
            times.push(performance.now() - startedAt)
            if (rows.length < jobsPerClaim) throw new Error(`A claim took only ${rows.length} jobs`)
            const { turn_priority, turn_principal } = rows.at(-1)
            last = [turn_priority, turn_principal]
          }
        } finally {
          await client.end()
        }
        await query(url, "update accepted_queue.job set state = 'created', started_on = null where state = 'active'")
        await query(url, 'vacuum analyze accepted_queue.job_common')
        return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), perSecond: 1000 / quantile(times, 0.5) }
      },
      close: () => server.dropDatabase(database),
    }
  },
})

/** Fills only the queue, because claims read nothing else. */
async function fill(url: string, size: number, principals: number): Promise<void> {
  // Skips the trigger that looks for the status row of each job.
  const withoutTriggers = new URL(url)
  withoutTriggers.searchParams.set('options', '-c session_replication_role=replica')
  await query(
    withoutTriggers.href,
    `insert into accepted_queue.job_common (id, name, data, singleton_key, policy, keep_until)
    select uuidv7(), $1, jsonb_build_object('payload', jsonb_build_object('noteId', n)), 'principal ' || n % $3::int,
      'standard', now() + interval '1 day'
    from generate_series(1, $2::int) n`,
    [createNote.name, size, principals],
  )
  await query(url, 'vacuum analyze accepted_queue.job_common')
}
