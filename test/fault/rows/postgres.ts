import { join } from 'node:path'
import { until } from '../../support/until.ts'
import { startServer } from '../server.ts'
import { acknowledgedMore, type Row } from '../stage.ts'

export const postgresCrash: Row = {
  name: 'postgres-crash',
  summary: 'Postgres crashes and restarts under load: processes survive and reconnect, nothing is lost',
  server: (directory) => startServer({ dataDir: join(directory, 'server') }),
  async story(stage) {
    const load = stage.load()
    const crashes = stage.short ? 2 : 20
    const away: number[] = []
    let stuck = false
    for (let crash = 0; crash < crashes && !stuck; crash++) {
      await acknowledgedMore(load, 20)
      await stage.server.crash()
      const begun = performance.now()
      await stage.server.restart()
      stuck = !(await acknowledgedMore(load, 1))
      away.push((performance.now() - begun) / 1000)
    }
    await load.stop()
    return {
      faults: away.length,
      notes: [`accepted again within ${Math.max(...away).toFixed(1)} s of each restart's begin`],
      findings: stuck ? ['Nothing was accepted any more'] : [],
    }
  },
}

export const backends: Row = {
  name: 'backends',
  summary: "random backends are terminated, the listeners' among them: retried or 503, watchers still learn",
  async story(stage) {
    const load = stage.load()
    const rounds = stage.short ? 10 : 80
    let faults = 0
    const kill = async (whose: string, most: number) => {
      const killed = await stage.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' and ${whose}
        order by random() limit $1`,
        [most],
      )
      faults += killed.length
    }
    let stuck = false
    for (let round = 0; round < rounds && !stuck; round++) {
      await kill('true', 3)
      if (round % 5 === 0) await kill("application_name like '%listen'", 3)
      stuck = !(await acknowledgedMore(load, 5))
    }
    await kill("application_name like '%listen'", 3)
    const findings = [...(await watch(stage.apis[0]?.url)), ...unanswered(load.refusals)]
    await load.stop()
    return { faults, findings: stuck ? ['Nothing was accepted any more', ...findings] : findings }
  },
}

/** Refused is what is at fault of the client, or told to come again; a 500 is neither. */
export const unanswered = (refusals: ReadonlyMap<string, number>): string[] =>
  [...refusals].filter(([why]) => why.startsWith('500')).map(([why, count]) => `${count} requests were answered ${why}`)

/** Waits for the end of jobs as a watcher, not as a poller. */
export async function watch(url: string | undefined, jobs = 3): Promise<string[]> {
  const findings: string[] = []
  for (let n = 0; n < jobs; n++) {
    // Not one of the clients' intents: nobody checks its effect.
    const accepted = await fetch(`${url}/jobs?limit=1`)
    const { value } = (await accepted.json()) as { value: { links: { self: string } }[] }
    const self = value[0]?.links.self
    if (!self) return ['There is no job to watch']
    const answer = await fetch(self, { headers: { prefer: 'wait=30' }, signal: AbortSignal.timeout(40_000) })
    const { endedAt } = (await answer.json()) as { endedAt?: string }
    if (!endedAt) findings.push(`A watcher did not learn of the end of ${self} within 30 s`)
  }
  return findings
}

/** Settings of each connection that make transactions lose races. */
const racing = (name: string, summary: string, options: string, most: number): Row => ({
  name,
  summary,
  place: { env: { PGOPTIONS: options } },
  async story(stage) {
    const before = await errorCounts(stage)
    const load = stage.load({ paths: ['/contended'], connections: 8 })
    await acknowledgedMore(load, stage.short ? 100 : most, 120)
    await load.stop()
    // Connections tell what they have counted when they have been idle for a while.
    await until(async () => (await errorCounts(stage)) > before).catch(() => {})
    const after = await errorCounts(stage)
    return {
      faults: after - before,
      findings: [
        ...unanswered(load.refusals),
        ...(after > before ? [] : ['No transaction lost a race: nothing was tested']),
      ],
      notes: [...load.unknowns, ...load.refusals].map(([why, count]) => `${count} × ${why}`),
    }
  },
})

const errorCounts = async ({ query }: { query(text: string): Promise<{ count: string }[]> }): Promise<number> =>
  Number(
    (await query('select xact_rollback as count from pg_stat_database where datname = current_database()'))[0]?.count,
  )

export const races = [
  racing('deadlocks', '40P01 in accept and settle: retried, nothing partial', '-c deadlock_timeout=20ms', 400),
  racing(
    'serialization',
    '40001 in accept and settle: retried, nothing partial',
    '-c default_transaction_isolation=repeatable\\ read',
    100,
  ),
  racing('lock-timeouts', '55P03 in accept and settle: retried, nothing partial', '-c lock_timeout=5ms', 100),
]
