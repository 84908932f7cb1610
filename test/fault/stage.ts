import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { check, type Verdict } from './checker.ts'
import { type Load, type LoadOptions, startLoad } from './client.ts'
import { type Journal, openJournal } from './journal.ts'
import { openPlace, type Place, type PlaceOptions } from './processes.ts'
import { type FaultProxy, startFaultProxy } from './proxy.ts'
import { query, type Server } from './server.ts'

/** What a row of the matrix works on: a database with processes of the product on it, and clients. */
export interface Stage {
  server: Server
  /** Between the processes and Postgres. */
  proxy: FaultProxy
  /** Directly. */
  databaseUrl: string
  directory: string
  journal: Journal
  /** The clients' requests go to any of these. */
  apis: Place[]
  workers: Place[]
  /** A further place, which is closed with the stage. */
  open(command: 'api' | 'worker', options?: Partial<PlaceOptions>): Promise<Place>
  load(options?: Partial<LoadOptions>): Load
  /** Whether the row is to be quick. */
  short: boolean
  /** Rows of the stage's database. */
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  query(text: string, values?: unknown[]): Promise<any[]>
}

/** What came of a row. */
export interface Figures extends Verdict {
  row: string
  faults: number
  /** From the end of the faults until everything that was accepted had ended. */
  recoverySeconds: number
  /** What else is of interest. */
  notes: string[]
}

/** What a row's story tells at its end; what must not be is a sentence in `findings`. */
export interface Told {
  faults: number
  notes?: string[]
  findings?: string[]
  /** Looks once everything has ended; answers further findings. */
  after?: () => Promise<string[]>
  /** The server that has the data now, when it is another one. */
  server?: Server
}

/** A row of the matrix. */
export interface Row {
  name: string
  /** What must hold. */
  summary: string
  /** Processes that are ready when the story begins; default: one API and two workers. */
  apis?: number
  workers?: number
  place?: Partial<PlaceOptions>
  /** Most of the time it waits, for leases to run out for example: it is played beside the others. */
  waits?: boolean
  /** A server of the row's own. */
  server?: (directory: string) => Promise<Server>
  /** Processes may die by themselves here. */
  deadly?: boolean
  mustFail?: (token: string) => boolean
  /** The faults; what the clients do meanwhile it starts itself, and stops. */
  story(stage: Stage): Promise<Told>
}

export interface PlayOptions {
  /** For rows without a server of their own. */
  server: () => Promise<Server>
  short: boolean
  /** Where the sources are. */
  root: string
  /** Where journals and logs go. */
  directory: string
  /** Ends the wait for what never ends, in seconds. */
  drainWithin?: number
}

let played = 0

/** Plays a row: sets the stage, lets the faults happen, waits until everything has ended, and compares. */
export async function play(row: Row, { server: shared, short, root, directory: base, drainWithin }: PlayOptions) {
  const number = ++played
  const directory = join(base, `${number}-${row.name}`)
  await mkdir(directory)
  const server = row.server ? await row.server(directory) : await shared()
  const databaseUrl = await server.createDatabase(`fault_${number}`)
  const database = new URL(databaseUrl).pathname.slice(1)
  const proxy = await startFaultProxy(server.port)
  const journal = await openJournal(join(directory, 'journal.jsonl'))
  const places: Place[] = []
  const loads: Load[] = []
  let serverNow = server
  const stage: Stage = {
    ...{ server, proxy, databaseUrl, directory, journal, short },
    apis: [],
    workers: [],
    async open(command, options) {
      const through = () => proxy.urlOf(databaseUrl)
      const place = await openPlace(command, { root, directory, databaseUrl: through, ...row.place, ...options })
      places.push(place)
      return place
    },
    load(options) {
      const url = () => (stage.apis[Math.floor(Math.random() * stage.apis.length)] as Place).url
      const load = startLoad({ journal, url, ...options })
      loads.push(load)
      return load
    },
    query: (text, values) => query(serverNow.urlOf(database), text, values),
  }
  try {
    for (let n = 0; n < (row.apis ?? 1); n++) stage.apis.push(await stage.open('api'))
    for (let n = 0; n < (row.workers ?? 2); n++) stage.workers.push(await stage.open('worker'))
    for (const place of places) place.start()
    await Promise.all(places.map((place) => place.ready()))
    const { faults, notes = [], findings = [], after, server: other } = await row.story(stage)
    serverNow = other ?? server
    const ended = performance.now()
    const left = await drain(stage, drainWithin ?? 150)
    const recoverySeconds = (performance.now() - ended) / 1000
    if (left > 0) findings.push(`${left} jobs do not end`)
    if (after) findings.push(...(await after()))
    const url = serverNow.urlOf(database)
    const executions = join(directory, 'executions')
    const verdict = await check({
      journal,
      executions,
      databaseUrl: url,
      ...(row.mustFail && { mustFail: row.mustFail }),
    })
    const deaths = places.reduce((sum, place) => sum + place.deaths(), 0)
    if (deaths > 0 && !row.deadly) findings.push(`${deaths} processes died by themselves`)
    const figures: Figures = { ...verdict, row: row.name, faults, notes, recoverySeconds }
    figures.findings.unshift(...findings)
    return figures
  } finally {
    await Promise.all(places.map((place) => place.end('SIGKILL')))
    await Promise.all(loads.map((load) => load.abandon()))
    await proxy.close()
    await journal.close()
    await (row.server
      ? serverNow.close()
      : query(server.urlOf('postgres'), `drop database ${database} with (force)`)
    ).catch(() => {})
  }
}

/** Waits until nothing is pending, in the status or in the queue; answers how many are when the time is over. */
export async function drain({ query }: Pick<Stage, 'query'>, seconds: number): Promise<number> {
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const [row] = await query(`
      select
        (select count(*) from accepted.job where ended_at is null)
        + (select count(*) from pgboss.job where state <= 'active' and name like 'intent.%') as left`).catch(() => [])
    const left = Number(row?.left ?? 1)
    if (left === 0 || performance.now() > deadline) return left
    await delay(100)
  }
}

/** Waits until so many more have been acknowledged; false when that does not happen in time. */
export async function acknowledgedMore(load: Load, more: number, seconds = 60): Promise<boolean> {
  const goal = load.acknowledged() + more
  const deadline = performance.now() + seconds * 1000
  while (load.acknowledged() < goal) {
    if (performance.now() > deadline) return false
    await delay(10)
  }
  return true
}

const counts = ['lost', 'unexpected', 'duplicated', 'partial', 'wrongStatus'] as const

/** Whether nothing is there that must not be. */
export const holds = (figures: Figures): boolean =>
  figures.findings.length === 0 && counts.every((count) => figures[count] === 0)

/** The figures in one line, and a line for each thing that must not be. */
export function print(figures: Figures): string {
  const { row, faults, acknowledged, lost, unexpected, duplicated, partial, wrongStatus, recovered } = figures
  const cells = [
    `${holds(figures) ? 'ok  ' : 'FAIL'} ${row.padEnd(18)}`,
    `faults ${faults}`,
    `acknowledged ${acknowledged}`,
    ...[`lost ${lost}`, `unexpected ${unexpected}`, `duplicated ${duplicated}`, `partial ${partial}`],
    ...[`wrong status ${wrongStatus}`, `recovered ${recovered}`],
    `duplicated executions ${figures.duplicatedExecutions}`,
    `recovery ${figures.recoverySeconds.toFixed(1)} s`,
    ...figures.notes,
  ]
  return [cells.join(' · '), ...figures.findings.map((finding) => `       ${finding}`)].join('\n')
}
