import t, { type Test } from 'tap'
import { get, post } from '../support/client.ts'
import { openTestDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

const lineCount = 100_000

/** Every 1,000th line has a day that does not exist. */
const badEvery = 1_000
const badCount = lineCount / badEvery
const goodCount = lineCount - badCount

/** Makes a file whose titles name their line. */
function makeFile(name: string): string {
  const line = (number: number) =>
    number % badEvery === 0
      ? `{ "title": "${name} ${number}", "dueBy": "2027-02-30" }\n`
      : `{ "title": "${name} ${number}", "dueBy": "2027-02-28" }\n`
  return Array.from({ length: lineCount }, (_, index) => line(index + 1)).join('')
}

interface Observation {
  at: number
  // biome-ignore lint/suspicious/noExplicitAny: the monitor of the job
  monitor: any
}

async function setUp(t: Test) {
  const database = await openTestDatabase(t)
  const databaseUrl = database.options.url
  const [api, worker] = await Promise.all([start(t, 'api', { databaseUrl }), start(t, 'worker', { databaseUrl })])
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  const query = async (text: string, values?: unknown[]): Promise<any[]> =>
    (await database.pool.query(text, values)).rows

  /** @returns the URL of the job */
  async function upload(name: string): Promise<string> {
    const headers = { 'content-type': 'application/x-ndjson' }
    const response = await fetch(`${api.url}/imports`, { method: 'POST', headers, body: makeFile(name) })
    t.equal(response.status, 202)
    return ((await response.json()) as { links: { self: string } }).links.self
  }

  /** Waits for each change of the job, until its end or until `isEnough`. */
  async function watch(url: string, isEnough: (percent: number) => boolean = () => false): Promise<Observation[]> {
    const seen: Observation[] = []
    let etag = ''
    for (;;) {
      const { status, headers, body } = await get(url, etag ? { prefer: 'wait=10', 'if-none-match': etag } : {})
      etag = headers.get('etag') ?? etag
      if (status === 304) continue
      seen.push({ at: Date.now(), monitor: body })
      if (body.endedAt || isEnough(body.percentComplete ?? 0)) return seen
    }
  }

  /** Whether each good line of a file is one todo, and each bad one is in the report. */
  async function checkImported(t: Test, name: string, url: string): Promise<void> {
    const { body: monitor } = await get(url)
    t.match(monitor, { status: 'succeeded', result: { accepted: goodCount, rejected: badCount } })
    const [counts] = await query(
      `select count(*)::integer as todos, count(distinct title)::integer as titles from todo where title like $1 || ' %'`,
      [name],
    )
    t.same(counts, { todos: goodCount, titles: goodCount }, 'no line is lost, and none is doubled')
    const importId = monitor.resourceLocation.split('/').at(-1)
    const [errors] = await query(
      `select count(*)::integer as errors, bool_and(line % ${badEvery} = 0) as "areBad"
      from todo_import_error where import_id = $1`,
      [importId],
    )
    t.same(errors, { errors: badCount, areBad: true })
    t.same(
      await query('select from todo_import_row union all select from todo_import_file'),
      [],
      'nothing else is left',
    )
  }

  return { databaseUrl, worker, query, upload, watch, checkImported }
}

function checkProgress(t: Test, seen: readonly Observation[]): void {
  const percents = seen.map(({ monitor }) => monitor.percentComplete ?? 0)
  t.same(
    percents,
    percents.toSorted((a, b) => a - b),
    'the progress never goes back',
  )
  t.ok(new Set(percents).size > 3, `${percents}`)
}

t.test(`an import of ${lineCount} lines reports progress and an estimate`, async (t) => {
  const { worker, upload, watch, checkImported } = await setUp(t)
  const url = await upload('first')
  const seen = await watch(url)
  checkProgress(t, seen)
  await checkImported(t, 'first', url)

  const { startedAt, endedAt } = seen.at(-1)?.monitor ?? {}
  const tookMs = Date.parse(endedAt) - Date.parse(startedAt)
  const estimated = seen.filter(({ monitor }) => monitor.percentComplete >= 25 && monitor.estimatedCompletionAt)
  const ratios = estimated.map(({ monitor }) => {
    return (Date.parse(monitor.estimatedCompletionAt) - Date.parse(startedAt)) / tookMs
  })
  t.ok(ratios.length > 2, `${ratios.length} estimates`)
  for (const ratio of ratios)
    t.ok(ratio > 0.5 && ratio < 2, `the estimated time is ${ratio.toFixed(2)} of the real one`)
  const remaining = estimated
    .filter(({ monitor }) => monitor.percentComplete <= 75)
    .map(({ at, monitor }) => (Date.parse(monitor.estimatedCompletionAt) - at) / (Date.parse(endedAt) - at))
  const range = (values: number[]) => `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`
  const { body: metrics } = await get(`${worker.url}/metrics`)
  const bytes = Number(/^process_resident_memory_bytes (\S+)/m.exec(metrics)?.[1])
  t.comment(
    `${Math.round(tookMs)} ms, ${Math.round((lineCount / tookMs) * 1000)} lines/s; estimated time ${range(ratios)} of the ` +
      `real one; estimated rest, at 25 to 75 %, ${range(remaining)} of the real one; the worker uses ${bytes >> 20} MiB`,
  )
})

t.test('an import that is canceled in the middle leaves nothing, and its retry imports each line once', async (t) => {
  const { query, upload, watch, checkImported } = await setUp(t)
  const url = await upload('canceled')
  const { percentComplete, message } = (await watch(url, (percent) => percent >= 40)).at(-1)?.monitor ?? {}
  t.equal((await post(`${url}/cancel`, {})).status, 202)
  const seen = await watch(url)
  t.match(seen.at(-1)?.monitor, { status: 'canceled' })
  t.comment(`canceled at ${percentComplete} %: ${message}`)
  const left = 'select from todo union all select from todo_import_row union all select from todo_import_error'
  t.same(await query(left), [])
  t.match(await query('select status, next_byte, accepted from todo_import'), [
    { status: 'canceled', next_byte: 0, accepted: 0 },
  ])

  const { body: retry } = await post(`${url}/retry`, {})
  checkProgress(t, await watch(retry.links.self))
  await checkImported(t, 'canceled', retry.links.self)
})

t.test('an import continues when its worker is killed, and imports each line once', async (t) => {
  const { databaseUrl, worker, query, upload, watch, checkImported } = await setUp(t)
  const url = await upload('killed')
  const before = await watch(url, (percent) => percent >= 40)
  await worker.end('SIGKILL')
  const killedAt = Date.now()
  const [{ next_line }] = await query('select next_line from todo_import')
  t.ok(next_line > 30_000 && next_line < 100_000, `it has read ${next_line - 1} lines`)
  await start(t, 'worker', { databaseUrl })
  const after = await watch(url)
  checkProgress(t, [...before, ...after])
  await checkImported(t, 'killed', url)
  const again = await until(() =>
    after.find(({ monitor }) => monitor.percentComplete > (before.at(-1)?.monitor.percentComplete ?? 0)),
  )
  t.comment(
    `killed after ${next_line - 1} lines; it continued ${((again.at - killedAt) / 1000).toFixed(1)} s later, and ended ` +
      `${(((after.at(-1)?.at ?? 0) - killedAt) / 1000).toFixed(1)} s after the kill`,
  )
})
