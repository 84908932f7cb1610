import { spawnSync } from 'node:child_process'
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../../src/db/embedded.ts'
import { query, type Server, startServer } from '../server.ts'
import { acknowledgedMore, type Row } from '../stage.ts'
import { unanswered, watch } from './postgres.ts'

export const failover: Row = {
  name: 'failover',
  summary: 'the primary is lost and its synchronous standby promoted: 0 lost',
  server: (directory) => startServer({ dataDir: join(directory, 'primary') }),
  async story(stage) {
    const { server } = stage
    const standby = await makeStandby(server, join(stage.directory, 'standby'))
    const load = stage.load()
    await acknowledgedMore(load, stage.short ? 50 : 300)
    await server.crash()
    const begun = performance.now()
    await query(standby.urlOf('postgres'), 'select pg_promote()')
    stage.proxy.leadTo(standby.port)
    const back = await acknowledgedMore(load, 20)
    const notes = [`accepted again after ${((performance.now() - begun) / 1000).toFixed(1)} s`]
    const findings = back ? await watch(stage.apis[0]?.url) : ['Nothing was accepted any more']
    await load.stop()
    return { faults: 1, notes, findings: [...findings, ...unanswered(load.refusals)], server: standby }
  },
}

/** A standby from a cold copy, for there is no pg_basebackup in the package; the primary then waits for it. */
async function makeStandby(primary: Server, dataDir: string): Promise<Server> {
  await query(primary.urlOf('postgres'), "alter system set synchronous_standby_names = '*'")
  // While it lies still, its files are a whole.
  await primary.stop()
  const cluster = join(dataDir, 'postgres')
  await cp(join(primary.dataDir, 'postgres'), cluster, { recursive: true, preserveTimestamps: true })
  const owner = spawnSync('chown', ['-R', '--reference', join(primary.dataDir, 'postgres'), cluster])
  if (owner.status !== 0) throw new Error(owner.stderr.toString())
  await writeFile(join(cluster, 'standby.signal'), '')
  await primary.restart()
  const { password } = new URL(primary.urlOf('postgres'))
  const standby = await startEmbeddedPostgres({
    dataDir,
    database: 'postgres',
    settings: {
      // Its own commits, once it is the primary, wait for nobody.
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
