import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTransport } from 'nodemailer'

export interface Reminder {
  to: string
  title: string
  /**
   * The Message-ID. It is the same in every attempt, so that a mail program can recognize an e-mail that arrives twice.
   */
  messageId: string
}

export interface Mailer {
  send(reminder: Reminder): Promise<void>
  close(): void
}

/** Creates a mailer that sends over SMTP or, without a URL, writes `.eml` files to a directory. */
export function createMailer(smtpUrl: string | undefined, directory: string): Mailer {
  const transport = smtpUrl
    ? createTransport({ url: smtpUrl, connectionTimeout: 5_000 })
    : createTransport({ streamTransport: true, buffer: true, newline: 'unix' })
  return {
    async send({ to, title, messageId }) {
      const sent = await transport.sendMail({
        from: 'Todos <todos@example.com>',
        to,
        messageId,
        subject: `Reminder: ${title}`,
        text: `This is a reminder for your todo:\n\n${title}\n`,
      })
      if (!('message' in sent)) return
      await mkdir(directory, { recursive: true })
      await writeFile(join(directory, `${messageId.replace(/[<>]/g, '')}.eml`), sent.message as Buffer)
    },
    close: () => transport.close(),
  }
}
