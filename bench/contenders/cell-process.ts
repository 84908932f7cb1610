// What the processes of all contenders in S19 share: the work of a job, and the producer.
import { openSync, writeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../core/clock.ts'
import { ready } from '../core/module.ts'

/** The names of the queues. Outside of the cell that mixes queues, all jobs go to the first. */
export const queueNames = ['cell.first', 'cell.second', 'cell.third', 'cell.fourth'] as const

export type QueueName = (typeof queueNames)[number]

/** The file of a cell to which workers append a line per execution, and the file of the producer. */
export type CellFile = 'EXECUTIONS' | 'ENQUEUED'

/** The duration of a job. */
export const workMs = 1

const files = new Map<CellFile, number>()

// One write per line: the kernel keeps it even if the process is killed right afterwards.
function append(name: CellFile, text: string): void {
  const file = files.get(name) ?? openSync(process.env[name] as string, 'a')
  files.set(name, file)
  writeSync(file, text)
}

/** Does the work of a job and records the end of this execution. Call this in the handler. */
export async function runJob(sequence: number): Promise<void> {
  await delay(workMs)
  append('EXECUTIONS', `${sequence} ${now()}\n`)
}

/** The bench sends this to the producer. */
export type ProducerCommand =
  /**
   * Enqueue this many jobs per second from now on, each transaction into the next of this many queues. 0 per second stops
   * the producer.
   */
  | { perSecond: number; queues: number }
  /** Enqueue this many jobs at once. */
  | { enqueue: number }

/** The producer sends this to the bench after a stop, when every transaction has ended. */
export interface ProducerStopped {
  stopped: true
}

const tickMs = 10
const jobsPerTransaction = 100
/** Above this number of open transactions, the producer gives up jobs instead of enqueuing them. */
const maxSends = 100

/**
 * Enqueues jobs at a fixed rate, even if earlier transactions are still open. The jobs that become due within 10 ms share
 * a transaction. Jobs whose transaction fails are not enqueued again. Call this in the process of a producer.
 *
 * @param enqueue gets the sequence numbers of jobs; resolves after the commit
 */
export function serveProducer(enqueue: (queue: QueueName, sequences: readonly number[]) => Promise<unknown>): void {
  let sequence = 0
  let sends = 0
  let sending = 0
  let isStopping = false
  let pace = { perSecond: 0, queues: 1, begun: now(), sent: 0 }

  const send = async (dues: readonly number[]) => {
    const queue = queueNames[sends++ % pace.queues] as QueueName
    const jobs = dues.map((due) => ({ sequence: ++sequence, due }))
    const record = (committed: number | undefined) =>
      append('ENQUEUED', jobs.map(({ sequence, due }) => `${sequence} ${due} ${committed ?? ''}\n`).join(''))
    if (sending >= maxSends) return record(undefined)
    sending++
    try {
      await enqueue(
        queue,
        jobs.map(({ sequence }) => sequence),
      )
      record(now())
    } catch (error) {
      console.error(`Not enqueued: ${(error as Error).message}`)
      record(undefined)
    }
    sending--
    reportStop()
  }
  const reportStop = () => {
    if (isStopping && sending === 0) process.send?.({ stopped: true } satisfies ProducerStopped)
  }
  const sendDue = () => {
    const due: number[] = []
    for (; pace.perSecond > 0; pace.sent++) {
      const at = pace.begun + (pace.sent * 1000) / pace.perSecond
      if (at > now()) break
      due.push(at)
    }
    for (let from = 0; from < due.length; from += jobsPerTransaction)
      void send(due.slice(from, from + jobsPerTransaction))
  }

  setInterval(sendDue, tickMs)
  process.on('message', (command: ProducerCommand) => {
    if ('enqueue' in command) {
      const dues = Array<number>(command.enqueue).fill(now())
      for (let from = 0; from < dues.length; from += jobsPerTransaction)
        void send(dues.slice(from, from + jobsPerTransaction))
      return
    }
    sendDue()
    pace = { ...command, begun: now(), sent: 0 }
    isStopping = command.perSecond === 0
    reportStop()
  })
  ready()
}
