import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { copySources } from '../support/next-release.ts'
import type { Violation } from './checker.ts'
import type { Row } from './row.ts'
import { abandonRow } from './rows/abandon.ts'
import { duplicateKey } from './rows/duplicate-key.ts'
import { familiesWithoutLock } from './rows/families.ts'
import { unawaitedStatements } from './rows/handlers.ts'
import { workerPausedInPerform } from './rows/paused-workers.ts'
import { apiKills } from './rows/process-kills.ts'

/** An edit that removes a guard from the sources. */
interface Cut {
  file: string
  /** Occurs exactly once in the file. */
  from: string
  to: string
}

/** A row that runs without a guard. The checker must find a violation. If it does not, a passing row proves nothing. */
export interface Control {
  name: string
  /** What the sources do without the guard, and the fault that exposes the missing guard. */
  summary: string
  row: Row
  cuts: readonly Cut[]
  expectedViolation: Violation
}

export const controls: readonly Control[] = [
  {
    name: 'ack-before-commit',
    summary: 'the API answers 202 before the commit, and is killed',
    row: apiKills,
    expectedViolation: 'lost',
    cuts: [
      {
        file: 'src/accept/committer.ts',
        from: `      await commit()
`,
        to: `      for (const [index, request] of unanswered.entries()) {
        const outcome = outcomes[index]
        if (outcome) request.resolve(outcome)
      }
      await new Promise((resolve) => setTimeout(resolve, 50))
      await commit()
`,
      },
    ],
  },
  {
    name: 'without-dedup',
    summary: 'settle does not insert into processed_key, and two jobs have the same key',
    row: duplicateKey,
    expectedViolation: 'duplicated',
    cuts: [
      {
        file: 'worker/execution/deduplicate.ts',
        from: 'where idempotency_key is not null and not cancel_requested',
        to: 'where false',
      },
      {
        file: 'worker/execution/deduplicate.ts',
        from: '  if (losers.length === 0) return new Map()',
        to: '  if (losers.length >= 0) return new Map()',
      },
    ],
  },
  {
    name: 'without-fence',
    summary: 'settle checks neither the attempt nor the status, and a worker is paused until its jobs are rescued',
    row: workerPausedInPerform,
    expectedViolation: 'duplicated',
    cuts: [
      {
        file: 'src/queue/lost-claim.ts',
        from: 'if (affected === claims.length) return',
        to: 'if (affected <= claims.length) return',
      },
      {
        file: 'worker/execution/pending-jobs.ts',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: source text of a template literal
        from: 'sql`${idIn(ids)} and job.status in ${pendingStatusesSql}`',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: source text of a template literal
        to: 'sql`${idIn(ids)}`',
      },
      {
        file: 'worker/execution/job-status.ts',
        from: 'if (rows.length !== completions.length) throw new LostClaim',
        to: 'if (rows.length > completions.length) throw new LostClaim',
      },
    ],
  },
  {
    name: 'abandon-after-commit',
    summary: 'abandon runs after the commit of the end, in a transaction of its own, and processes are killed',
    row: abandonRow,
    expectedViolation: 'disagreeing',
    cuts: [
      {
        file: 'src/jobs/abandon.ts',
        from: '.then(() => abandon(trx, opened.map(toAbandonedJob)))',
        to: `.then(() => {
          setTimeout(async () => {
            const { openDatabase } = await import('../db/database.ts')
            const { kysely } = openDatabase({ url: process.env.DATABASE_URL as string, poolSize: 1 })
            await kysely.transaction().execute((other) => abandon(other as never, opened.map(toAbandonedJob)))
          }, 50)
        })`,
      },
    ],
  },
  {
    name: 'without-lock-of-children',
    summary:
      'transactions that end children of the same parent do not wait for each other, and nothing finds the parent',
    row: familiesWithoutLock,
    expectedViolation: 'wrongStatus',
    cuts: [
      {
        file: 'worker/maintenance/children.ts',
        from: 'sql<ResolvedRow>`select * from accepted.resolve_missed()`',
        to: 'sql<ResolvedRow>`select null as changed, null as enqueued where false`',
      },
    ],
  },
  {
    name: 'statements-after-rollback',
    summary: 'the database client sends statements after a ROLLBACK, and a handler does not await its statements',
    row: unawaitedStatements,
    expectedViolation: 'duplicated',
    cuts: [
      {
        file: 'src/db/client.ts',
        from: "    if (isEnd) this.#transaction = 'ending'",
        to: "    if (isEnd) this.#transaction = 'begun'",
      },
    ],
  },
]

/**
 * Copies the sources and removes the guards of a control from the copy.
 *
 * @param copy a new directory within the checkout
 * @throws Error if the text of a cut does not occur exactly once in its file
 */
export async function copyWithoutGuards({ cuts }: Control, root: string, copy: string): Promise<void> {
  await copySources(root, copy)
  for (const cut of cuts) await writeFile(join(copy, cut.file), await makeCut(copy, cut))
}

/**
 * Returns the text of a file of the sources after a cut.
 *
 * @throws Error if the text of the cut does not occur exactly once
 */
export async function makeCut(root: string, { file, from, to }: Cut): Promise<string> {
  const pieces = (await readFile(join(root, file), 'utf8')).split(from)
  if (pieces.length !== 2)
    throw new Error(
      `Adapt the cut in controls.ts. ${file} must contain this text once, but contains it ${pieces.length - 1} times:\n${from}`,
    )
  return pieces.join(to)
}
