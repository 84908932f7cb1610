import { setTimeout as delay } from 'node:timers/promises'
import type { PgBoss } from '../db/boss.ts'
import type { Database } from '../db/database.ts'
import { isContention } from '../db/sqlstate.ts'
import type { Refusal } from '../operation.ts'
import { type AcceptEntry, accept, EntriesRefused, type Outcome } from './accept.ts'

export type Committed = Outcome | { kind: 'refused'; refusal: Refusal }

/** Takes requests and answers each only after its transaction has committed. */
export interface Committer {
  submit(entry: AcceptEntry): Promise<Committed>
}

/** A transaction that lost a race runs again so many times before the request is told. */
const contentionRetries = 3

export interface CommitterOptions {
  database: Database
  boss: PgBoss
}

/** Makes the committer of a process: a transaction for each request. */
export function createCommitter({ database, boss }: CommitterOptions): Committer {
  const commit = (entry: AcceptEntry): Promise<Outcome[]> =>
    database.kysely.transaction().execute((trx) => accept(boss, trx, [entry]))

  const commitOrRetry = async (entry: AcceptEntry, retries = contentionRetries): Promise<Outcome[]> => {
    try {
      return await commit(entry)
    } catch (error) {
      if (retries === 0 || !isContention(error)) throw error
      await delay(Math.random() * 20 * 2 ** (contentionRetries - retries))
      return commitOrRetry(entry, retries - 1)
    }
  }

  return {
    async submit(entry) {
      try {
        const [outcome] = (await commitOrRetry(entry)) as [Outcome]
        return outcome
      } catch (error) {
        const refusal = error instanceof EntriesRefused ? error.refusals.get(entry.id) : undefined
        if (!refusal) throw error
        return { kind: 'refused', refusal }
      }
    },
  }
}
