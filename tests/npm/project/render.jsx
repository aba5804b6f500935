// What applications have around the recipes for React.
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import { SWRConfig } from "swr";

// SWR retries after five seconds by default.
const quick = { dedupingInterval: 0, errorRetryInterval: 300, focusThrottleInterval: 0 };

export function render(Page) {
  createRoot(document.querySelector("main")).render(
    <QueryClientProvider client={new QueryClient()}>
      <SWRConfig value={quick}>
        <Page />
      </SWRConfig>
    </QueryClientProvider>,
  );
}

export const pageOf = ({ useReport, useLogin }) =>
  function Page() {
    const report = useReport();
    const login = useLogin?.();
    return (
      <>
        <p>{report.error?.message ?? report.data}</p>
        <button onClick={() => login.mutate("ada")}>Log in</button>
      </>
    );
  };
