import { globSync } from 'node:fs'
import { installPackage } from '../../support/debian-package.ts'
import { findServerErrors } from '../findings.ts'
import { type Row, waitForAcknowledgements, waitUntilDrained } from '../row.ts'
import { submit } from '../submit.ts'

const findLibrary = () => globSync('/usr/lib/*/faketime/libfaketime.so.1')[0]

export const clockSkew: Row = {
  name: 'clock-skew',
  summary:
    "The clocks of API processes and workers are an hour fast or slow. Heartbeats and expiry follow the database's clock.",
  isMostlyWaiting: true,
  apiCount: 0,
  workerCount: 0,
  async run(context) {
    installPackage('faketime', () => findLibrary() !== undefined)
    for (const [command, offset] of [
      ['api', '+1h'],
      ['api', '-1h'],
      ['worker', '+1h'],
      ['worker', '-1h'],
    ] as const) {
      const env = { LD_PRELOAD: findLibrary(), FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' }
      const process = await context.createProcess(command, { env })
      context[command === 'api' ? 'apis' : 'workers'].push(process)
      process.start()
    }
    await Promise.all([...context.apis, ...context.workers].map((process) => process.ready()))
    // These jobs run longer than the heartbeat timeout, so they are rescued unless the worker sends heartbeats.
    await submit(context, '/performed', 10, { durationMs: 12_000 })
    const load = context.startLoad()
    await waitForAcknowledgements(load, context.isShort ? 100 : 1_000, 120)
    const [{ isSkewed }] = await context.query(`
      select max(abs(extract(epoch from accepted.uuid_time(id) - created_at))) > 3500 as "isSkewed" from accepted.job`)
    await load.stop()
    await waitUntilDrained(context, 120)
    const [{ early }] = await context.query('select count(*)::integer as early from accepted.job where attempt > 1')
    return {
      faultCount: 4,
      findings: [
        ...(isSkewed ? [] : ['No clock was skewed, so nothing was tested']),
        ...(early > 0 ? [`${early} jobs were rescued from a live worker`] : []),
        ...findServerErrors(load.refusals),
      ],
    }
  },
}
