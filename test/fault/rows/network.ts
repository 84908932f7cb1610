import { setTimeout as delay } from 'node:timers/promises'
import { countOutcomes, findServerErrors, findUnnoticedEnds } from '../findings.ts'
import type { ProxyFault } from '../proxy.ts'
import { nothingAccepted, type Row, waitForAcknowledgements } from '../row.ts'

interface NetworkRow {
  name: string
  summary: string
  fault: ProxyFault
  /** The fault lasts until this number of intents are acknowledged. The short version waits for a tenth of them. */
  acknowledgements: number
}

const networkRow = ({ name, summary, fault, acknowledgements }: NetworkRow): Row => ({
  name,
  summary,
  async run(context) {
    const load = context.startLoad()
    await waitForAcknowledgements(load, 20)
    context.proxy.setFault(fault)
    const count = context.isShort ? acknowledgements / 10 : acknowledgements
    const isAcceptingDuringFault = await waitForAcknowledgements(load, count, 120)
    context.proxy.setFault({})
    const isAcceptingAfterFault = await waitForAcknowledgements(load, 20)
    await load.stop()
    return {
      faultCount: context.proxy.faultCount(),
      notes: countOutcomes(load.unknownOutcomes),
      findings: [
        ...(isAcceptingDuringFault && isAcceptingAfterFault ? [] : [nothingAccepted]),
        ...findServerErrors(load.refusals),
      ],
    }
  },
})

const networkDelay = networkRow({
  name: 'network-delay',
  summary: 'The network to Postgres delays every packet by 20 ms. No job is lost.',
  fault: { delayMs: 20 },
  acknowledgements: 200,
})

const resets = (['before', 'after'] as const).map((when) =>
  networkRow({
    name: `reset-${when}-commit`,
    summary:
      when === 'before'
        ? 'Connections break before COMMIT reaches Postgres. A retry with the same key executes the intent once.'
        : 'Connections break after COMMIT, before its reply. A retry with the same key returns the stored job.',
    fault: { reset: { oneIn: 5, when } },
    acknowledgements: 500,
  }),
)

const silenceSeconds = 20
/** How long it may take to detect and replace a dead connection. */
const maxDetectionSeconds = 60

const silences = (['existing', 'all'] as const).map(
  (silence): Row => ({
    name: silence === 'existing' ? 'silent-connections' : 'postgres-unreachable',
    summary:
      silence === 'existing'
        ? 'The existing connections go silent without an error. Every process detects and replaces them.'
        : `For ${silenceSeconds} s, Postgres does not respond, and no connection reports an error. Every process recovers.`,
    isMostlyWaiting: true,
    async run(context) {
      const load = context.startLoad()
      await waitForAcknowledgements(load, 20)
      context.proxy.setFault({ silence })
      if (silence === 'all') await delay(silenceSeconds * 1000)
      context.proxy.setFault({})
      const startedAt = performance.now()
      const isAccepting = await waitForAcknowledgements(load, 50, maxDetectionSeconds)
      const notes = [`accepted again after ${((performance.now() - startedAt) / 1000).toFixed(1)} s`]
      const findings = isAccepting
        ? await findUnnoticedEnds(context)
        : [`No request was accepted within ${maxDetectionSeconds} s`]
      await load.stop()
      return { faultCount: context.proxy.faultCount(), notes, findings }
    },
  }),
)

const notificationsDropped: Row = {
  name: 'notifications-dropped',
  summary:
    'No notification arrives. By polling Postgres, workers find every job, and long polls find the end of every job.',
  async run(context) {
    context.proxy.setFault({ dropNotifications: true })
    const load = context.startLoad()
    await waitForAcknowledgements(load, context.isShort ? 50 : 500, 120)
    const findings = await findUnnoticedEnds(context)
    await load.stop()
    const faultCount = context.proxy.faultCount()
    if (faultCount === 0) findings.unshift('No notification was dropped, so nothing was tested')
    return { faultCount, findings }
  },
}

export const networkRows = [networkDelay, ...resets, ...silences, notificationsDropped]
