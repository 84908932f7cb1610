import type { Socket } from 'node:net'
import { send } from './protocol.ts'

interface Template {
  database: string
  isMade: boolean
  /** The connection of the process that makes the template. */
  maker: Socket | undefined
  waiting: Socket[]
}

/** Lets one test process make each template database, while the others wait for it. */
export class Templates {
  readonly #prefix: string
  readonly #byKey = new Map<string, Template>()
  #count = 0

  constructor(prefix: string) {
    this.#prefix = prefix
  }

  claim(socket: Socket, key: string): void {
    const template = this.#byKey.get(key)
    if (template?.isMade) this.#answer(socket, key, template)
    else if (template) template.waiting.push(socket)
    else this.#assign(key, [socket])
  }

  made(socket: Socket, key: string): void {
    const template = this.#byKey.get(key)
    if (template?.maker !== socket) return
    Object.assign(template, { isMade: true, maker: undefined })
    for (const waiting of template.waiting.splice(0)) this.#answer(waiting, key, template)
  }

  failed(socket: Socket, key: string): void {
    const template = this.#byKey.get(key)
    if (template?.maker === socket) this.#assign(key, template.waiting)
  }

  /** Handles the end of a connection: another process makes what this one was making. */
  left(socket: Socket): void {
    for (const [key, template] of this.#byKey) {
      template.waiting = template.waiting.filter((waiting) => waiting !== socket)
      this.failed(socket, key)
    }
  }

  /** Lets the first of these processes make the template, under a new name: the old database may be half made. */
  #assign(key: string, [maker, ...waiting]: Socket[]): void {
    this.#byKey.delete(key)
    if (!maker) return
    this.#count += 1
    const template = { database: `${this.#prefix}_template_${this.#count}`, isMade: false, maker, waiting }
    this.#byKey.set(key, template)
    this.#answer(maker, key, template)
  }

  #answer(socket: Socket, key: string, { database, isMade }: Template): void {
    send(socket, { template: { key, database, isMade } })
  }
}
