import type { PgBoss } from '../db/boss.ts'
import type { Database } from '../db/database.ts'
import { transact } from '../db/transaction.ts'
import type { Refusal } from '../operation.ts'
import { type AcceptEntry, accept, EntriesRefused, type Outcome } from './accept.ts'
import { keyLocked, lockTimeout } from './idempotency-key.ts'
import type { Turns } from './turns.ts'

export type Committed = Outcome | { kind: 'refused'; refusal: Refusal }

/** Takes requests and answers each only after its transaction has committed. */
export interface Committer {
  submit(entry: AcceptEntry): Promise<Committed>
}

export interface CommitterOptions {
  database: Database
  boss: PgBoss
  turns: Turns
}

/** Makes the committer of a process: a transaction for each request. */
export function createCommitter({ database, boss, turns }: CommitterOptions): Committer {
  const commit = async (entry: AcceptEntry) => {
    const [outcome] = await transact(database, (trx) => accept(boss, trx, [entry]))
    return outcome as Outcome
  }
  return {
    async submit(entry) {
      const { principal, idempotency } = entry
      try {
        if (!idempotency) return await commit(entry)
        const thing = `key ${principal}\0${idempotency.key}`
        return await turns.take(thing, { patience: lockTimeout, onTimeout: keyLocked }, () => commit(entry))
      } catch (error) {
        const refusal = error instanceof EntriesRefused ? error.refusals.get(entry.id) : undefined
        if (!refusal) throw error
        return { kind: 'refused', refusal }
      }
    },
  }
}
