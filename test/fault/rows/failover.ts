import { spawnSync } from 'node:child_process'
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../../src/embedded-postgres/server.ts'
import { queryOnce } from '../../support/database.ts'
import { findServerErrors, findUnnoticedEnds } from '../findings.ts'
import { nothingAccepted, type Row, waitForAcknowledgements } from '../row.ts'
import { type PostgresServer, startServer } from '../server.ts'

export const failover: Row = {
  name: 'failover',
  summary: 'The primary crashes under load, and its synchronous standby is promoted. No job is lost.',
  startServer: (directory) => startServer({ dataDir: join(directory, 'primary') }),
  async run(context) {
    const { server } = context
    const standby = await startStandby(server, join(context.directory, 'standby'))
    const load = context.startLoad()
    await waitForAcknowledgements(load, context.isShort ? 50 : 300)
    await server.crash()
    const crashedAt = performance.now()
    await queryOnce(standby.urlOf('postgres'), 'select pg_promote()')
    context.proxy.redirectTo(standby.port)
    const isAccepting = await waitForAcknowledgements(load, 20)
    const notes = [`accepted again after ${((performance.now() - crashedAt) / 1000).toFixed(1)} s`]
    const findings = isAccepting ? await findUnnoticedEnds(context) : [nothingAccepted]
    await load.stop()
    return { faultCount: 1, notes, findings: [...findings, ...findServerErrors(load.refusals)], server: standby }
  },
}

/**
 * Stops the primary, copies its files, restarts it, and starts a synchronous standby on the copy. The embedded Postgres
 * has no pg_basebackup.
 */
async function startStandby(primary: PostgresServer, dataDir: string): Promise<PostgresServer> {
  await queryOnce(primary.urlOf('postgres'), "alter system set synchronous_standby_names = '*'")
  // Only the files of a stopped server are consistent.
  await primary.stop()
  const primaryCluster = join(primary.dataDir, 'postgres')
  const cluster = join(dataDir, 'postgres')
  await cp(primaryCluster, cluster, { recursive: true, preserveTimestamps: true })
  const chown = spawnSync('chown', ['-R', '--reference', primaryCluster, cluster])
  if (chown.status !== 0) throw new Error(chown.stderr.toString())
  await writeFile(join(cluster, 'standby.signal'), '')
  await primary.restart()
  const { password } = new URL(primary.urlOf('postgres'))
  const standby = await startEmbeddedPostgres({
    dataDir,
    database: 'postgres',
    settings: {
      // After its promotion, the standby commits without waiting for another standby.
      ...{ max_connections: '200', synchronous_standby_names: '' },
      primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres password=${password}`,
    },
  })
  const urlOf = (database: string) => {
    const url = new URL(standby.url)
    url.pathname = `/${database}`
    return url.href
  }
  const { port, logFile } = standby
  const close = async () => {
    await standby.stop('immediate')
    await primary.close()
  }
  return { ...primary, port, dataDir, logFile, urlOf, close, crash: () => standby.stop('immediate') }
}
