/** One end of the IPC channel between the primary process and a child process. */
export interface Port {
  send?(message: object, callback: (error: Error | null) => void): unknown
  on(event: 'message', listener: (message: unknown) => void): unknown
}

/** What one process asks the other. */
export type Question = 'ready' | 'stop' | 'health' | 'metrics' | 'summed metrics'

/** How a process answers. A question without an answer is answered with undefined. */
export type Answers = Partial<Record<Question, () => unknown>>

/** Asks the process at the other end. Resolves to undefined if it does not answer in time. */
export type Ask = (question: Question, timeoutMs?: number) => Promise<unknown>

interface Message {
  accepted: 'question' | 'answer'
  id: number
  question?: Question
  answer?: unknown
}

/** The app may send messages of its own over the channel. */
const isOurs = (message: unknown): message is Message =>
  typeof message === 'object' && message !== null && 'accepted' in message && 'id' in message

const defaultTimeoutMs = 500

/** Answers the questions of the process at the other end of the channel, and returns a function that asks it. */
export function connectPort(port: Port, answers: Answers): Ask {
  const pending = new Map<number, (answer: unknown) => void>()
  let lastId = 0
  // The process at the other end may have ended.
  const send = (message: Message) => void port.send?.(message, () => {})
  const answerTo = async (question: Question) => answers[question]?.()
  port.on('message', (message) => {
    if (!isOurs(message)) return
    const { id, question, answer } = message
    if (message.accepted === 'answer') return pending.get(id)?.(answer)
    const reply = (given?: unknown) => send({ accepted: 'answer', id, answer: given })
    answerTo(question as Question).then(reply, () => reply())
  })
  return (question, timeoutMs = defaultTimeoutMs) =>
    new Promise((resolve) => {
      const id = ++lastId
      const end = (answer?: unknown) => {
        clearTimeout(timer)
        pending.delete(id)
        resolve(answer)
      }
      const timer = setTimeout(end, timeoutMs)
      pending.set(id, end)
      send({ accepted: 'question', id, question })
    })
}
