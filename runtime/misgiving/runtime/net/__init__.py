"""What every gRPC service and client here is made with."""
