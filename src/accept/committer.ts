import type { PgBoss } from '../db/boss.ts'
import type { Database } from '../db/database.ts'
import { transact } from '../db/transaction.ts'
import type { Refusal } from '../operation.ts'
import { type AcceptEntry, accept, EntriesRefused, type Outcome } from './accept.ts'

export type Committed = Outcome | { kind: 'refused'; refusal: Refusal }

/** Takes requests and answers each only after its transaction has committed. */
export interface Committer {
  submit(entry: AcceptEntry): Promise<Committed>
}

export interface CommitterOptions {
  database: Database
  boss: PgBoss
}

/** Makes the committer of a process: a transaction for each request. */
export function createCommitter({ database, boss }: CommitterOptions): Committer {
  return {
    async submit(entry) {
      try {
        const [outcome] = (await transact(database, (trx) => accept(boss, trx, [entry]))) as [Outcome]
        return outcome
      } catch (error) {
        const refusal = error instanceof EntriesRefused ? error.refusals.get(entry.id) : undefined
        if (!refusal) throw error
        return { kind: 'refused', refusal }
      }
    },
  }
}
