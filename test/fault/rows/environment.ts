import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync } from 'node:fs'
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../../support/program.ts'
import { until } from '../../support/until.ts'
import { query } from '../server.ts'
import { acknowledgedMore, drain, type Row, type Stage } from '../stage.ts'
import { unanswered, watch } from './postgres.ts'
import { submit } from './processes.ts'

/** Installs a Debian package, unless what it brings is there. */
function install(name: string, isThere: () => boolean): void {
  if (isThere()) return
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', name]]) {
    const { status, stderr } = spawnSync('apt-get', args, { encoding: 'utf8', timeout: 300_000 })
    if (status !== 0) throw new Error(`${name} could not be installed: run \`apt-get install ${name}\` (${stderr})`)
  }
}

const faketime = () => globSync('/usr/lib/*/faketime/libfaketime.so.1')[0]

export const clock: Row = {
  name: 'clock',
  waits: true,
  summary: 'the clocks of API and workers are an hour ahead or behind: leases and expiry run on the database clock',
  apis: 0,
  workers: 0,
  async story(stage) {
    install('faketime', () => faketime() !== undefined)
    const skewed = (offset: string) => ({ LD_PRELOAD: faketime(), FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' })
    for (const [command, offset] of [
      ['api', '+1h'],
      ['api', '-1h'],
      ['worker', '+1h'],
      ['worker', '-1h'],
    ] as const) {
      const place = await stage.open(command, { env: skewed(offset) })
      stage[command === 'api' ? 'apis' : 'workers'].push(place)
      place.start()
    }
    await Promise.all([...stage.apis, ...stage.workers].map((place) => place.ready()))
    // Longer than a heartbeat may be silent: the leases have to be renewed.
    await submit(stage, '/performed', 10, { takes: 12_000 })
    const load = stage.load()
    await acknowledgedMore(load, stage.short ? 100 : 1_000, 120)
    const [{ off }] = await stage.query(`
      select max(abs(extract(epoch from accepted.uuid_time(id) - created_at))) > 3500 as off from accepted.job`)
    await load.stop()
    await drain(stage, 120)
    const [{ early }] = await stage.query('select count(*) as early from accepted.job where attempt > 1')
    return {
      faults: 4,
      findings: [
        ...(off ? [] : ['No clock was skewed: nothing was tested']),
        ...(Number(early) > 0 ? [`${early} leases ran out before their time`] : []),
        ...unanswered(load.refusals),
      ],
    }
  },
}

/** Through PgBouncer in transaction mode, with prepared statements off. */
const bouncer = (withListen: boolean): Row => ({
  name: `pgbouncer${withListen ? '' : '-only'}`,
  summary: withListen
    ? 'PgBouncer in transaction mode, with a direct listen URL: works with prepared statements off'
    : 'PgBouncer in transaction mode, without a listen URL: works by polling',
  apis: 0,
  workers: 0,
  async story(stage) {
    const program = '/usr/sbin/pgbouncer'
    install('pgbouncer', () => existsSync(program))
    await using bouncer = await startBouncer(program, stage)
    const env = {
      DATABASE_PREPARED_STATEMENTS: 'off',
      ...(withListen && { DATABASE_LISTEN_URL: stage.databaseUrl }),
    }
    for (const command of ['api', 'worker', 'worker'] as const) {
      const place = await stage.open(command, { env, databaseUrl: () => bouncer.url })
      stage[command === 'api' ? 'apis' : 'workers'].push(place)
      place.start()
    }
    await Promise.all([...stage.apis, ...stage.workers].map((place) => place.ready()))
    const load = stage.load()
    await acknowledgedMore(load, stage.short ? 50 : 200, 120)
    const findings = [...(await watch(stage.apis[0]?.url)), ...unanswered(load.refusals)]
    await load.stop()
    // It is needed until nothing is pending.
    await drain(stage, 120)
    return { faults: 0, findings, notes: [...load.unknowns].map(([why, count]) => `${count} × ${why}`) }
  },
})

async function startBouncer(program: string, stage: Stage) {
  const { hostname, port, username, password, pathname } = new URL(stage.databaseUrl)
  const listenPort = await freePort()
  const file = join(stage.directory, 'pgbouncer.ini')
  await writeFile(
    file,
    `[databases]
* = host=${hostname} port=${port} user=${username} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
`,
  )
  const id = (flag: string) => Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout)
  // Like Postgres, it does not run as root.
  const account = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : undefined
  if (account) await chown(file, account.uid, account.gid)
  const child = spawn(program, ['-q', file], { ...account, stdio: 'ignore' })
  const url = `postgres://${username}@127.0.0.1:${listenPort}${pathname}`
  await until(() =>
    query(url, 'select').then(
      () => true,
      () => false,
    ),
  )
  return {
    url,
    async [Symbol.asyncDispose]() {
      const closed = once(child, 'close')
      child.kill('SIGKILL')
      await closed
    },
  }
}

export const bouncers = [bouncer(true), bouncer(false)]
