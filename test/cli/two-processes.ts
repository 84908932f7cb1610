import type { Test } from 'tap'
import { config, type FixtureDatabase } from '../flow/fixtures/database.ts'
import { post } from '../support/client.ts'
import { type Program, type ProgramOptions, start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { readSeries } from '../worker/support.ts'

export const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** The lines of the log, without the lines of fixtures. */
export const logOf = (program: Program) =>
  program
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))

/** Starts a command in two processes, and waits until both are ready. */
export async function startTwo(t: Test, command: 'api' | 'worker', options: Partial<ProgramOptions> & FixtureDatabase) {
  const { env, ...rest } = options
  const args = ['--processes', '2']
  const program = await start(t, command, { config, args, ...rest, env: { LOG_LEVEL: 'info', ...env } })
  const [first, second] = await until(() => logOf(program).find(({ processes }) => processes)?.processes)
  t.teardown(() => {
    for (const pid of [first, second]) if (isRunning(pid)) process.kill(pid, 'SIGKILL')
  })
  return { program, pids: [first, second] as [number, number] }
}

/** Undefined if the request reaches a process that is killed before it answers. */
export const readMetric = async ({ url }: Program, series: string): Promise<number | undefined> => {
  const answer = await fetch(`${url}/metrics`, { headers: { connection: 'close' } }).catch(() => undefined)
  return answer && readSeries(await answer.text(), series)
}

/** Posts a note over a connection of its own, again until it is accepted. */
async function postUntilAccepted({ url }: Program, path: string, key: string): Promise<void> {
  const headers = { 'idempotency-key': key, connection: 'close' }
  await until(async () => (await post(url + path, { text: key }, headers).catch(() => undefined))?.status === 202)
}

export const postAll = (program: Program, path: string, prefix: string, count: number) =>
  Promise.all(Array.from({ length: count }, (_, index) => postUntilAccepted(program, path, `${prefix} ${index}`)))

export const countJobs = async ({ database }: FixtureDatabase, condition = 'true'): Promise<number> =>
  (await database.pool.query(`select count(*)::int as count from accepted.job where ${condition}`)).rows[0].count

export const acceptedSeries = 'accepted_requests_total{operation="note.create",outcome="accepted"}'

export const performedSeries = 'accepted_attempts_total{operation="note.perform",outcome="succeeded"}'

/** Enqueues notes. One with the text `wait` takes a while. */
export const enqueueNotes = ({ database }: FixtureDatabase, text: string, count: number) =>
  database.pool.query(
    "select accepted.enqueue('note.perform', jsonb_build_object('text', $1::text)) from generate_series(1, $2)",
    [text, count],
  )
