// What the processes do that keep jobs coming, and that tell how many have ended.
import { setTimeout as delay } from 'node:timers/promises'
import { ready } from '../core/module.ts'

/** From who works to the bench, and from there to who feeds: so many jobs more have ended. */
export interface Ended {
  ended: number
}

/** From the bench to who feeds: so many jobs are to be under way from now on. */
export interface Feed {
  mostUnderWay: number
}

/** From who feeds to the bench: nothing is being sent any more, and so much was refused since it began. */
export interface Fed {
  failed: number
}

/** In a process that works: tells the bench. */
export function tellEnded(ended: number): void {
  process.send?.({ ended } satisfies Ended)
}

/** A closed loop: what has ended is replaced. */
export interface Feeder {
  /** Jobs that are sent at once. */
  chunk: number
  /** Sendings at the same time. */
  atOnce: number
  /** Resolves when the jobs are stored. */
  send(count: number): Promise<unknown>
}

/** After something was refused, in milliseconds. */
const pause = 100

/** Keeps, in a process of its own, as many jobs under way as the bench asks for. */
export function serveFeeder({ chunk, atOnce, send }: Feeder): void {
  let most = 0
  let underWay = 0
  let sending = 0
  let failed = 0
  const sendOne = async () => {
    sending += 1
    underWay += chunk
    try {
      await send(chunk)
    } catch (error) {
      console.error(error)
      failed += chunk
      underWay -= chunk
      await delay(pause)
    }
    sending -= 1
    proceed()
  }
  const proceed = () => {
    while (sending < atOnce && underWay + chunk <= most) void sendOne()
    if (most === 0 && sending === 0) process.send?.({ failed } satisfies Fed)
  }
  process.on('message', (message: Ended | Feed) => {
    if ('ended' in message) underWay -= message.ended
    else most = message.mostUnderWay
    if ('ended' in message && most === 0) return
    proceed()
  })
  ready()
}
