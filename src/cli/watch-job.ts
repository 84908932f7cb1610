import type { JobStatus } from '../db/tables.ts'
import { isFinal } from '../jobs/status.ts'
import { printable } from '../primitives/printable.ts'
import { poll } from './poll.ts'
import { createLiveLine } from './progress-bar.ts'

const pollIntervalMs = 500

/** What a job that is watched shows of itself. */
export interface WatchedJob {
  status: JobStatus
  percent: number | null
  error: { code: string; message: string } | null
}

/**
 * Prints the progress of a job until it ends: a bar on a terminal, a line for each change elsewhere, and with `json`
 * each change as a line of JSON. The exit code is 0 if the job succeeds, else 1.
 *
 * @param describe says what the bar does not show, for example how many children have ended
 */
export async function watchUntilEnd<Job extends WatchedJob>(
  read: () => Promise<Job>,
  describe: (job: Job) => string,
  { json = false }: { json?: boolean },
): Promise<void> {
  const line = createLiveLine(process.stdout)
  let shown = ''
  for await (const job of poll(read, pollIntervalMs)) {
    const text = formatState(job, describe(job))
    if (text !== shown) {
      if (json) console.log(JSON.stringify(job))
      else if (process.stdout.isTTY) line.show(percentOf(job), text)
      else console.log(text)
    }
    shown = text
    if (!isFinal(job.status)) continue
    if (!json) line.end(percentOf(job), text)
    process.exitCode = job.status === 'succeeded' ? 0 : 1
    return
  }
}

const percentOf = ({ status, percent }: WatchedJob) => (status === 'succeeded' ? 100 : (percent ?? 0))

function formatState(job: WatchedJob, description: string): string {
  const error = job.error ? `: ${job.error.code}: ${job.error.message}` : ''
  return printable([job.status, `${percentOf(job)} %`, description].filter((part) => part !== '').join('  ') + error)
}
