import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { carelessHandler } from './rows/handlers.ts'
import { apiKills, oneKey, stoppedWorkers } from './rows/processes.ts'
import type { Figures, Row } from './stage.ts'

/** A piece of the sources that is cut out. */
interface Cut {
  file: string
  /** Matches in one place. */
  from: string
  to: string
}

/** A guard that is cut out, and the row that must show it: the checker is worth nothing when it does not. */
export interface Control {
  name: string
  summary: string
  row: Row
  cuts: readonly Cut[]
  /** What the checker must find. */
  finds: 'lost' | 'duplicated'
}

export const controls: readonly Control[] = [
  {
    name: 'ack-before-commit',
    summary: 'the answer leaves before the commit, and the API is killed',
    row: apiKills,
    finds: 'lost',
    cuts: [
      {
        file: 'src/accept/committer.ts',
        from: `(trx: AnyTransaction) => inTime(accept(boss, trx, entries, 'skip'), longestTogether, tooLong)`,
        to: `async (trx: AnyTransaction) => {
          const outcomes = await accept(boss, trx, entries, 'skip')
          for (const [index, one] of batch.entries()) settle(one, outcomes[index])
          await new Promise((later) => setTimeout(later, 50))
          return outcomes
        }`,
      },
    ],
  },
  {
    name: 'no-dedup',
    summary: 'nothing is inserted into processed_key, and there are two jobs with one key',
    row: oneKey,
    finds: 'duplicated',
    cuts: [
      {
        file: 'worker/dedup.ts',
        from: 'where idempotency_key is not null and not cancel_requested',
        to: 'where false',
      },
      {
        file: 'worker/dedup.ts',
        from: '  if (losers.length === 0) return new Map()',
        to: '  if (losers.length >= 0) return new Map()',
      },
    ],
  },
  {
    name: 'no-fence',
    summary: 'settle looks neither at the attempt nor at the status, and a worker is stopped past its lease',
    row: stoppedWorkers[0] as Row,
    finds: 'duplicated',
    cuts: [
      {
        file: 'worker/claim.ts',
        from: '  if (affected !== claims.length) {',
        to: '  if (affected > claims.length) {',
      },
      {
        file: 'worker/dedup.ts',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a piece of a template
        from: ' and state in ${pendingList}\n      order by id for update',
        to: '\n      order by id for update',
      },
      {
        file: 'worker/status.ts',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is a piece of a template
        from: ' and state in ${pendingList}\n    order by id for update',
        to: '\n    order by id for update',
      },
      {
        file: 'worker/status.ts',
        from: '  if (rows.length !== endings.length) throw new LostClaim',
        to: '  if (rows.length > endings.length) throw new LostClaim',
      },
    ],
  },
  {
    name: 'no-last-word',
    summary: 'statements may follow a ROLLBACK that is under way, and a handler sends some beside one that fails',
    row: carelessHandler,
    finds: 'duplicated',
    cuts: [
      {
        file: 'src/db/client.ts',
        from: "    if (isEnd) this.#transaction = 'ending'",
        to: "    if (isEnd) this.#transaction = 'begun'",
      },
    ],
  },
]

/** What the sources consist of, for a copy that runs. */
const parts = ['src', 'worker', 'migrations', 'assets', 'package.json', 'test/fault/app']

/**
 * Copies the sources without the guards.
 *
 * @param copy a directory within the checkout, that is not there yet
 * @throws Error when a cut does not match exactly once: the sources have changed, and the control must follow
 */
export async function copyWithout({ cuts }: Control, root: string, copy: string): Promise<void> {
  for (const part of parts) {
    await mkdir(join(copy, part, '..'), { recursive: true })
    await cp(join(root, part), join(copy, part), { recursive: true })
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
  for (const { file, from, to } of cuts) {
    const path = join(copy, file)
    const pieces = (await readFile(path, 'utf8')).split(from)
    if (pieces.length !== 2) throw new Error(`${file} has ${pieces.length - 1} times, not once:\n${from}`)
    await writeFile(path, pieces.join(to))
  }
}

/** Whether the checker found what it must find. */
export const isExposed = ({ finds }: Control, figures: Figures): boolean => figures[finds] > 0

/** What the checker found, in one line. */
export function printControl(control: Control, figures: Figures): string {
  const { lost, unexpected, duplicated, partial, wrongStatus, acknowledged } = figures
  const verdict = isExposed(control, figures) ? 'ok  ' : 'FAIL'
  return `${verdict} without ${control.name.padEnd(18)} · must be ${control.finds} · acknowledged ${acknowledged} · lost ${lost} · unexpected ${unexpected} · duplicated ${duplicated} · partial ${partial} · wrong status ${wrongStatus}`
}
