import stringWidth from 'string-width'
import { printable } from '../primitives/printable.ts'
import { cut } from './table.ts'

const maxBarWidth = 40
const minBarWidth = 5
const defaultColumns = 80

/** Formats a progress bar and the text after it. Without space for a bar, returns only the text. */
export function formatBar(percent: number, text: string, columns: number): string {
  const width = Math.min(maxBarWidth, columns - stringWidth(text) - 4)
  if (width < minBarWidth) return text
  const filled = Math.max(0, Math.min(width, Math.floor((width * percent) / 100)))
  return `[${'#'.repeat(filled)}${'-'.repeat(width - filled)}] ${text}`
}

/** A line of a terminal that is replaced. If the stream is no terminal, nothing is written. */
export interface LiveLine {
  /** @param percent from 0 to 100 */
  show(percent: number, text: string): void
  /** Shows a text without a bar. */
  say(text: string): void
  /** Shows the last state completely, and begins a new line. */
  end(percent: number, text: string): void
  /** Removes the line. */
  clear(): void
}

/** Creates a live line, by default on standard error, so that standard output has only the result of the command. */
export function createLiveLine(stream: NodeJS.WriteStream = process.stderr): LiveLine {
  const replace = (text: string) => void (stream.isTTY && stream.write(`\r\u001b[K${text}`))
  const columns = () => stream.columns || defaultColumns
  return {
    show: (percent, text) => replace(cut(formatBar(percent, text, columns()), columns() - 1)),
    say: (text) => replace(cut(printable(text), columns() - 1)),
    end: (percent, text) => replace(`${formatBar(percent, text, columns())}\n`),
    clear: () => replace(''),
  }
}
