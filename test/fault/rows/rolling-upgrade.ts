import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { asRole } from '../../support/database.ts'
import { createNextRelease, thisRelease } from '../../support/next-release.ts'
import { countOutcomes } from '../findings.ts'
import { findSpentAttempts, findStandstill, type Row, type RowContext, waitUntilDrained } from '../row.ts'
import type { SupervisedProcess } from '../supervised-process.ts'

const run = promisify(execFile)

/** Jobs that take longer than the grace period, so that old workers hand some of them to new workers. */
const slow = { paths: ['/performed'], body: { durationMs: 2_000 } }

export const rollingUpgrade: Row = {
  name: 'rolling-upgrade',
  summary:
    'The next release migrates the database under the processes of this release, runs beside them, and then replaces them. No request is dropped, no attempt is spent, and every process exits in time.',
  workerCount: 1,
  processOptions: { env: { GRACE_SECONDS: '1' } },
  async run(context) {
    const { apis: oldApis, workers: oldWorkers, isShort } = context
    const count = isShort ? 5 : 100
    const next = join(context.directory, 'next-release')
    await createNextRelease(next)
    const load = context.startLoad({ connections: isShort ? 2 : 6 })
    const loads = isShort ? [load] : [load, context.startLoad({ connections: 1, ...slow })]
    const findings = await findStandstill(context, load, count)

    await migrateTo(next, context)
    findings.push(...(await findStandstill(context, load, count)))
    if (!isShort) {
      // An old process can start after the migration, for example because it has crashed.
      oldApis.push(await startOne(context, 'api', thisRelease))
      oldWorkers.push(await startOne(context, 'worker', thisRelease))
      findings.push(...(await findStandstill(context, load, count)))
    }

    const newApi = await startOne(context, 'api', next)
    const newWorker = await startOne(context, 'worker', next)
    context.apis = [...oldApis, newApi]
    findings.push(...(await findStandstill(context, load, count)))

    context.apis = [newApi]
    const old = [...oldApis, ...oldWorkers]
    const exitCodes = await Promise.all(old.map((process) => process.end('SIGTERM')))
    context.workers = [newWorker]
    findings.push(...(await findStandstill(context, load, count)))
    await Promise.all(loads.map((load) => load.stop()))
    await waitUntilDrained(context, 60)

    const [{ version }] = await context.query('select accepted.next_release() as version')
    if (version !== 2) findings.push('The migration of the next release has not run')
    const dropped = countOutcomes(...loads.flatMap(({ unknownOutcomes, refusals }) => [unknownOutcomes, refusals]))
    return {
      faultCount: 1 + old.length,
      findings: [
        ...findings,
        ...(await findSpentAttempts(context)),
        ...dropped.map((outcome) => `Requests were dropped: ${outcome}`),
        ...exitCodes.filter((code) => code !== 0).map((code) => `A process exited with code ${code}`),
      ],
    }
  },
}

async function migrateTo(release: string, { databaseUrl }: RowContext): Promise<void> {
  const config = join(release, 'test/fault/app/accepted.config.ts')
  const args = ['--conditions=accepted-source', join(release, 'src/cli/main.ts'), 'migrate', '--config', config]
  await run(process.execPath, args, {
    cwd: release,
    env: { ...process.env, DATABASE_URL: asRole(databaseUrl, 'migrate') },
  })
}

async function startOne(context: RowContext, command: 'api' | 'worker', root: string): Promise<SupervisedProcess> {
  const started = await context.createProcess(command, { root })
  started.start()
  await started.ready()
  return started
}
