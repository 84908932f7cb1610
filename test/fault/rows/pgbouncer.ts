import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { queryOnce } from '../../support/database.ts'
import { installPackage } from '../../support/debian-package.ts'
import { freePort } from '../../support/program.ts'
import { until } from '../../support/until.ts'
import { countOutcomes, findServerErrors, findUnnoticedEnds } from '../findings.ts'
import { type Row, type RowContext, waitForAcknowledgements, waitUntilDrained } from '../row.ts'

const program = '/usr/sbin/pgbouncer'

/** Runs all processes through PgBouncer in transaction mode, with prepared statements off. */
const pgbouncer = (hasListenUrl: boolean): Row => ({
  name: hasListenUrl ? 'pgbouncer' : 'pgbouncer-without-listen',
  summary: hasListenUrl
    ? 'PgBouncer in transaction mode, with a direct URL for LISTEN. Everything works with prepared statements off.'
    : 'PgBouncer in transaction mode, without a URL for LISTEN. Everything works by polling.',
  apiCount: 0,
  workerCount: 0,
  async run(context) {
    installPackage('pgbouncer', () => existsSync(program))
    await using bouncer = await startPgbouncer(context)
    const env = {
      DATABASE_PREPARED_STATEMENTS: 'off',
      ...(hasListenUrl && { DATABASE_LISTEN_URL: context.databaseUrl }),
    }
    for (const command of ['api', 'worker', 'worker'] as const) {
      const process = await context.createProcess(command, { env, databaseUrl: () => bouncer.url })
      context[command === 'api' ? 'apis' : 'workers'].push(process)
      process.start()
    }
    await Promise.all([...context.apis, ...context.workers].map((process) => process.ready()))
    const load = context.startLoad()
    await waitForAcknowledgements(load, context.isShort ? 50 : 200, 120)
    const findings = [...(await findUnnoticedEnds(context)), ...findServerErrors(load.refusals)]
    await load.stop()
    // The pending jobs need PgBouncer, which stops when this function returns.
    await waitUntilDrained(context, 120)
    return { faultCount: 0, findings, notes: countOutcomes(load.unknownOutcomes) }
  },
})

async function startPgbouncer({ databaseUrl, directory }: RowContext) {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl)
  const listenPort = await freePort()
  const file = join(directory, 'pgbouncer.ini')
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
  // PgBouncer refuses to run as root.
  const account = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : undefined
  if (account) await chown(file, account.uid, account.gid)
  const child = spawn(program, ['-q', file], { ...account, stdio: 'ignore' })
  const url = `postgres://${username}@127.0.0.1:${listenPort}${pathname}`
  await until(() =>
    queryOnce(url, 'select').then(
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

export const pgbouncerRows = [pgbouncer(true), pgbouncer(false)]
